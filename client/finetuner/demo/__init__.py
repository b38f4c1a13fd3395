"""The demo, its report page and the training of clip-mini; may import `api`, `flow` and the floors below them."""
