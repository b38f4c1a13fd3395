"""The training loop, with its optimizers and checkpoints; may import losses, hooks and data, never execution."""
