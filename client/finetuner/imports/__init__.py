"""Reads models of other libraries from their folders, as models of ours."""
