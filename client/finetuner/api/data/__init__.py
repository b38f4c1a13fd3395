"""Data on its way to a Flow: read, checked, described and pushed."""
