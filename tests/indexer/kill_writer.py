"""Writes, deletes, searches and builds graphs until it is killed; prints what was acknowledged.

    python -m tests.indexer.kill_writer FOLDER FIRST

Batch n holds 20 documents and deletes one of its own and one of the batch before; `+n` says that it is stored, `-n`
that they are deleted.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from finetuner.executors.indexer.engines import edge
from finetuner.executors.indexer.engines.engine import SearchOptions
from finetuner.executors.indexer.index import Index

from .hashed_encoder import encoded_text

SIZE = 20


def batch_of(number: int) -> list[str]:
    """Return the ids of a batch; the last one replaces a document of the first."""
    return [*(f"{number}-{i}" for i in range(SIZE - 1)), f"shared-{number % 3}"]


def gone_after(number: int) -> list[str]:
    """Return the ids that batch n deletes."""
    return [f"{number}-0", f"{number - 1}-1"]


def text_of(document_id: str, number: int) -> str:
    return f"text of {document_id} in {number}"


def main(folder: Path, first: int) -> None:
    edge.EXACT_BELOW = 200  # graphs with few vectors
    index = Index(folder, min_free_mb=0)

    def search() -> None:
        while True:
            for artifact in index.counts():
                index.search([encoded_text("q", "anything", artifact)], SearchOptions(5))

    def build() -> None:
        while True:
            for collection in index.collections.all().values():
                collection.optimise()

    for work in (search, build):
        threading.Thread(target=work, daemon=True).start()
    for number in range(first, 10**6):
        artifact = ("old", "new")[number % 2]
        index.upsert([encoded_text(key, text_of(key, number), artifact, batch=number) for key in batch_of(number)])
        print(f"+{number}", flush=True)
        index.delete(gone_after(number))
        print(f"-{number}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
