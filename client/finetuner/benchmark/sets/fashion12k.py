"""Reads German Fashion12k from the parquet files of `jinaai/fashion-captions-de` on Hugging Face.

Columns: 'text' (string, German) and 'image' (struct of 'bytes' and 'path'). Files:

data/train-00000-of-00001-4c3f5333e9df536a.parquet            10,000 rows
data/test-00000-of-00001-eef66a2cc89fefb0.parquet             2,001 rows
default/train/0000.parquet and default/test/0000.parquet      on the branch refs/convert/parquet

Source: the data card and the lists of files on huggingface.co, November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...exceptions import InvalidInput
from ...sources.tables.parquet_file import parquet_documents

if TYPE_CHECKING:
    from docarray import Document

SHARD = re.compile(r"-(\d{5})-of-(\d{5})\b")


def fashion12k_documents(folder: Path, split: str, on_error: str) -> Iterator[Document]:
    """Return the pairs of a split, with a few rows in memory at a time.

    Args:
        folder: holds the files as downloaded: `data/SPLIT-*.parquet`, the same without `data`, or
            `default/SPLIT/*.parquet`.
        split: 'train' or 'test'.
        on_error: 'raise' lists all bad rows in one error after the last row. 'skip' leaves them out with a warning.

    Raises:
        InvalidInput: no file of the split, a missing shard, or missing columns.
        InvalidDocument: rows without text or image.
    """
    patterns = (f"data/{split}-*.parquet", f"{split}-*.parquet", f"default/{split}/*.parquet")
    paths = next((found for pattern in patterns if (found := sorted(folder.glob(pattern)))), [])
    if not paths:
        raise InvalidInput(
            f"split {split!r} must be in {str(folder / patterns[0])!r}. Got no such file. Download it there."
        )
    shards = [(int(match[1]), int(match[2])) for path in paths if (match := SHARD.search(path.name))]
    missing = set(range(max((total for _, total in shards), default=0))) - {number for number, _ in shards}
    if missing:
        raise InvalidInput(
            f"split {split!r} must have all its shards. Got no shard {min(missing)} in {str(paths[0].parent)!r}. "
            f"Download it."
        )
    return parquet_documents(paths, task="text-to-image", on_error=on_error)
