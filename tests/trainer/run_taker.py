"""Takes waiting runs one after another and prints their ids, as a trainer does that shares a database with others.

python -m tests.trainer.run_taker OWNER SECONDS
"""

from __future__ import annotations

import sys
import time

from finetuner.contract.wire import CREATED
from finetuner.database.engine import Database
from finetuner.database.url import database_url
from finetuner.executors.trainer.leases import Leases
from finetuner.executors.trainer.run_store import RunStore


def main(owner: str, seconds: float) -> None:
    url = database_url()
    assert url is not None
    store = RunStore(Database.server(url))
    leases = Leases(store.database, owner, seconds)
    print("ready", flush=True)
    sys.stdin.readline()
    while waiting := store.with_status(CREATED):
        for run in waiting:
            if leases.take(run.artifact_id) is not None:
                print(run.artifact_id, flush=True)
    print("end", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
