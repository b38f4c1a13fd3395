"""The configuration of a run, checked without torch; may import `sources`, `workspace` and the floors below them."""
