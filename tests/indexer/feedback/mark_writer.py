"""Appends marks until it is killed; prints the id of each acknowledged one. Each is sent twice, as by a client's retry.

python -m tests.indexer.feedback.mark_writer FILE FIRST
"""

from __future__ import annotations

import sys
from pathlib import Path

from finetuner.contract.marks import Mark
from finetuner.executors.indexer.feedback.store import Marked, Marks


def marked(number: int) -> Marked:
    return Marked(Mark(f"m{number}", ("a", "b"), ("b",), offset=number % 7), f"query {number}")


def main(file: Path, first: int) -> None:
    store = Marks(file)
    for number in range(first, 10**9):
        assert store.add([marked(number)], "anna") == [None]
        print(number, flush=True)
        assert store.add([marked(number)], "anna") == [None]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
