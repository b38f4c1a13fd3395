"""Writes artifacts as the folders that other libraries load."""
