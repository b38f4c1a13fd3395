"""Marks of searches: their store and their endpoints."""
