"""Starts a Flow or one of its rooms and keeps it up; may import `inference` and the layers below it, and jina."""
