"""Writes batches until it is refused, and goes on when it is told that there is room.

    python -m tests.indexer.full_disk_writer FOLDER MIN_FREE_MB FIRST

Batches are numbered from FIRST. `+n` says that batch n is stored, `!` why it is not, `?` what a search found then. A
line on stdin makes it go on.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from finetuner.exceptions import FinetunerError
from finetuner.executors.indexer.engines.engine import SearchOptions
from finetuner.executors.indexer.index import Index

from .hashed_encoder import encoded_text
from .kill_writer import batch_of, text_of


def main(folder: Path, min_free_mb: int, first: int) -> None:
    index = Index(folder, min_free_mb=min_free_mb)
    for number in count(first):
        artifact, padding = ("old", "new")[number % 2], "x" * 5000
        try:
            index.upsert(
                [encoded_text(key, text_of(key, number), artifact, padding=padding) for key in batch_of(number)]
            )
            print(f"+{number}", flush=True)
        except FinetunerError as error:
            print(f"!{type(error).__name__}: {error}", flush=True)
            (hits,) = index.search([encoded_text("q", text_of("0-3", 0), "old")], SearchOptions(1))
            print(f"?{hits}", flush=True)
            if not sys.stdin.readline():
                break
    index.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
