"""A CLIP of under 4 million parameters that ships with the package, and the script that trained it."""
