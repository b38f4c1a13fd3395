"""Copies runs, marks and tokens from the files of a workspace into its database server: `finetuner db copy`."""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..contract.wire import AWAITS, CREATED, STARTED
from ..exceptions import InvalidInput
from ..workspace.tokens import TokenFile
from .dialects import insert_new
from .engine import Database
from .shared import shared_database
from .tables import EXPERIMENTS, MARKS, NOTES, RUNS, TOKENS

RUNS_FILE, MARKS_FILE = "runs.sqlite", "feedback/marks.sqlite"
TRAINER_LOCK = "trainer.lock"


def copy_files(root: Path) -> dict[str, int]:
    """Copy what the server does not have yet, in one transaction. The files stay as they are.

    A run that trains waits in its queue in the server, and resumes from its checkpoint. Marks keep their order.

    Args:
        root: folder of the workspace, with no Flow that uses it.

    Returns:
        The number of rows that were copied, by table.

    Raises:
        InvalidInput: a trainer uses the workspace, or the database is not set, not this workspace's, or not upgraded.
        DatabaseUnreachable: the server is away. Nothing is copied.
    """
    copied: Counter[str] = Counter({table.name: 0 for table in (EXPERIMENTS, RUNS, NOTES, MARKS, TOKENS)})
    with _without_trainer(root):
        server = shared_database(root, 1)
        assert server is not None
        with closing(server), server.begin() as connection:
            for table, row in _rows(root):
                copied[table.name] += insert_new(connection, table, **row)
    return dict(copied)


def _rows(root: Path) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    for name, tables in ((RUNS_FILE, (EXPERIMENTS, RUNS, NOTES)), (MARKS_FILE, (MARKS,))):
        if not (root / name).is_file():
            continue
        with closing(Database.embedded_file(root / name)) as file, file.connect() as connection:
            known = set(sa.inspect(connection).get_table_names())
            for table in tables:
                if table.name not in known:  # an earlier version's
                    continue
                ordered = sa.select(table).order_by(*table.primary_key.columns)
                for row in connection.execution_options(yield_per=100).execute(ordered):
                    values = {key: value for key, value in row._mapping.items() if key != "number"}
                    if values.get("status") == STARTED:
                        values |= {"status": CREATED, "details": f"{AWAITS} again"}
                    yield table, values
    for token in TokenFile(root).read():
        yield TOKENS, {**vars(token), "role": str(token.role)}


@contextmanager
def _without_trainer(root: Path) -> Iterator[None]:
    with open(root / TRAINER_LOCK, "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InvalidInput(
                f"a workspace must have no Flow while its files are copied. Got {root}, which a trainer uses. Stop it."
            ) from None
        yield
