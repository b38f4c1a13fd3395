"""Artifacts as zips, streamed in and out; imports flow."""
