"""Maintains the index: graphs, re-index, repair, backup, move; imports `executors.indexer.index` and below."""
