"""Makers and readers of CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetuner.sources.tables.csv_documents import csv_documents
from finetuner.sources.tables.csv_file import CSVOptions


def write(shop: Path, text: str, encoding: str = "utf-8") -> Path:
    path = shop / "data.csv"
    path.write_bytes(text.encode(encoding))
    return path


def read(path: Any, task: str = "text-to-image", on_error: str = "raise", **options: Any) -> list[Any]:
    return list(csv_documents(path, CSVOptions(**options), task=task, on_error=on_error))
