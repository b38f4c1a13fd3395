"""Readers of folders: images with class folders, captions or a metadata file."""
