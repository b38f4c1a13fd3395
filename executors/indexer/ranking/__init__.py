"""Searches beyond the nearest vectors: examples, hybrid, diversity, groups, facets and cursors."""
