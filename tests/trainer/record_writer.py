"""Records runs and marks in turn until it is killed; prints each name that was acknowledged. It waits for its database.

python -m tests.trainer.record_writer FIRST
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress

from finetuner.config.run_config import RunConfig
from finetuner.contract.marks import Mark
from finetuner.database.engine import Database
from finetuner.database.url import database_url
from finetuner.exceptions import AlreadyExists, DatabaseUnreachable
from finetuner.executors.indexer.feedback.store import Marked, Marks
from finetuner.executors.trainer.run_store import RunStore


def stubbornly(write: Callable[[], object]) -> None:
    """Write, again after each refusal, as a caller does that retries."""
    while True:
        try:
            write()
            return
        except DatabaseUnreachable:
            time.sleep(0.05)


def main(first: int) -> None:
    url = database_url()
    assert url is not None
    database = Database.server(url)
    store, opened = RunStore(database), list[Marks]()
    stubbornly(lambda: opened.append(Marks(Database.server(url))))
    for number in range(first, 10**9):
        name = f"r{number}"
        with suppress(AlreadyExists):  # its commit had reached the server before the answer was lost
            stubbornly(lambda name=name: store.create(RunConfig("clip-mini", "pairs", run_name=name), {}))
        print(name, flush=True)
        mark = Marked(Mark(f"m{number}", ("a", "b"), ("b",)), "query")
        stubbornly(lambda mark=mark: opened[0].add([mark], "ann"))
        print(mark.mark.id, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
