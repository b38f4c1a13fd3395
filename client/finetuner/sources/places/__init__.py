"""Data in other places: the hub of Hugging Face, object stores and web servers."""
