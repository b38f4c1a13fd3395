"""Scores of the live index on a user's own queries."""
