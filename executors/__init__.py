"""Executors of Jina: one folder per room of the Flow, and the gateway; imports finetuner."""
