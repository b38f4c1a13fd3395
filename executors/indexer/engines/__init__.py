"""Engines: one interface for vectors, with Qdrant embedded or on a server; imports `finetuner` only."""
