"""Retrieval metrics of models on pairs and documents; may import `config` and the floors below it."""
