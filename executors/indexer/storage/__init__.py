"""Stores documents and collections on disk; imports the engines' interface and `finetuner`."""
