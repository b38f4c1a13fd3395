"""Readers of archives."""
