"""The training loop, with its losses, optimizers and checkpoints; may import hooks and data, never execution."""
