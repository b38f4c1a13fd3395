"""Endings of the names of data files: those that a client reads, and those that a server takes as an upload."""

from __future__ import annotations

CSV = (".csv", ".tsv", ".txt")
JSONL = (".jsonl", ".ndjson")
TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
DATA = (*CSV, *JSONL, ".json", ".parquet", *TAR, ".zip")
"""Endings of all data files but images."""
CLIENT_ALONE = (".txt", ".tar.bz2", ".tar.xz")
"""Endings that a server refuses: a text may be a caption, and these archives may grow a thousandfold."""
UPLOADED = tuple(ending for ending in DATA if ending not in CLIENT_ALONE)
