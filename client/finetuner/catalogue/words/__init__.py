"""Captions in English and German; imports only the data modules at the top of catalogue."""
