"""Readers of tables: CSV, jsonl and parquet, with named columns or without."""
