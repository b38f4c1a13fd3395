"""Queries with judged documents: TREC, BEIR and CSV."""
