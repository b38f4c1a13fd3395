"""Hooks around the training loop, one for each callback and option; may import neither the loop nor data."""
