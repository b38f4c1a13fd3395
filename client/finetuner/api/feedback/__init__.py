"""Marks of search results, and the training data made of them."""
