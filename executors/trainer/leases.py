"""Leases of runs: with a server as database, several trainers take runs from one queue, and each run has one holder.

A trainer takes a run by SELECT ... FOR UPDATE SKIP LOCKED, and renews the leases of its runs while it lives. All times
are the database's: a trainer whose clock is wrong holds no run for longer. A lease that has ended is taken over once,
by one. Its number grows each time, so a process of an earlier holder knows that it has lost the run.

With an embedded database, the lock of the workspace makes sure that there is one trainer, and its leases never end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from finetuner.contract.wire import CREATED, STARTED
from finetuner.database.dialects import server_time
from finetuner.database.engine import Database
from finetuner.database.tables import LEASES, RUNS
from finetuner.workspace.folder import DAMAGE

from .run_store import RunRecord, move

LEASE_SECONDS = 60.0
RENEWALS = 6  # in one lease
GRACE = 0.2  # of a lease: time between its end, when its worker ends itself, and the next holder's start
EMBEDDED = "embedded"  # the only holder of an embedded database's runs


@dataclass(frozen=True)
class Lease:
    """A lease as its holder's worker sees it."""

    current: bool
    """Whether nobody has taken the run since."""
    left: float
    """Seconds until it ends, by the database's clock; 0 or less after its end."""


class Leases:
    """The runs that one trainer holds.

    Args:
        database: of the runs.
        owner: name of the trainer, another one than every other trainer's.
        seconds: length of a lease without renewal.
    """

    def __init__(self, database: Database, owner: str, seconds: float = LEASE_SECONDS) -> None:
        self._database, self.seconds = database, seconds
        self.owner = EMBEDDED if database.embedded else owner

    def take(self, artifact_id: str) -> int | None:
        """Take a waiting run: its state becomes STARTED.

        Returns:
            The number of the lease; None where another trainer takes the run now, has taken it, or still stops it.
        """
        with self._database.begin() as connection:
            waiting = sa.select(RUNS.c.artifact_id).where(RUNS.c.artifact_id == artifact_id, RUNS.c.status == CREATED)
            if connection.execute(waiting.with_for_update(skip_locked=True)).first() is None:
                return None
            found = self._locked(connection, artifact_id)
            if found is not None and found.owner not in (None, self.owner) and found.left > 0:
                return None  # canceled and resumed elsewhere
            number = 1 if found is None else found.number + 1
            self._put(connection, artifact_id, number, new=found is None)
            move(connection, artifact_id, STARTED, "Training", (CREATED,))
            return number

    def take_over(self) -> list[RunRecord]:
        """Take the runs whose trainer is gone: its lease has ended. Their state stays STARTED."""
        if self._database.embedded:
            return []
        ended = LEASES.c.until + GRACE * self.seconds < server_time()
        lost = (LEASES.c.owner != self.owner, ended, RUNS.c.status == STARTED)
        both = RUNS.join(LEASES, RUNS.c.artifact_id == LEASES.c.artifact_id)
        wanted = sa.select(RUNS, LEASES.c.number.label("lease")).select_from(both).where(*lost)
        taken = []
        with self._database.begin() as connection:
            rows = connection.execute(wanted.with_for_update(skip_locked=True, of=[RUNS, LEASES])).all()
            for row in rows:
                self._put(connection, row.artifact_id, row.lease + 1, new=False)
                taken += _records([row])
        return taken

    def mine(self) -> list[RunRecord]:
        """Return the runs that this trainer holds, oldest first, also those that were canceled elsewhere."""
        both = RUNS.outerjoin(LEASES, RUNS.c.artifact_id == LEASES.c.artifact_id)
        mine: sa.ColumnElement[bool] = LEASES.c.owner == self.owner
        if self._database.embedded:  # an earlier version has started runs without leases
            mine = sa.or_(mine, RUNS.c.status == STARTED)
        with self._database.connect() as connection:
            rows = connection.execute(sa.select(RUNS).select_from(both).where(mine).order_by(RUNS.c.created_at))
            return _records(rows)

    def renew(self) -> None:
        """Renew the leases of all runs of this trainer."""
        if self._database.embedded:
            return
        with self._database.begin() as connection:
            values = {"until": server_time() + self.seconds}
            connection.execute(sa.update(LEASES).where(LEASES.c.owner == self.owner).values(values))

    def move(self, artifact_id: str, status: str, details: str) -> bool:
        """Put a started run into another state, and let go of it.

        Returns:
            False where this trainer does not hold the run: nothing is written then.
        """
        with self._database.begin() as connection:
            found = self._locked(connection, artifact_id)
            if found is not None and found.owner not in (None, self.owner):
                return False
            self._free(connection, artifact_id)
            return move(connection, artifact_id, status, details, (STARTED,))

    def release(self, artifact_id: str) -> None:
        """Let go of a run whose worker has stopped."""
        with self._database.begin() as connection:
            self._free(connection, artifact_id)

    def look(self, artifact_id: str, number: int) -> Lease:
        """Return the state of the lease with this number."""
        with self._database.connect() as connection:
            row = connection.execute(self._one(artifact_id)).first()
        if row is None or row.number != number or row.owner is None:
            return Lease(current=False, left=0.0)
        return Lease(current=True, left=float(row.left))

    def _one(self, artifact_id: str) -> sa.Select[Any]:
        left = (LEASES.c.until - server_time()).label("left")
        return sa.select(LEASES.c.owner, LEASES.c.number, left).where(LEASES.c.artifact_id == artifact_id)

    def _locked(self, connection: sa.Connection, artifact_id: str) -> sa.Row[Any] | None:
        return connection.execute(self._one(artifact_id).with_for_update()).first()

    def _put(self, connection: sa.Connection, artifact_id: str, number: int, *, new: bool) -> None:
        values = {"owner": self.owner, "number": number, "until": server_time() + self.seconds}
        change = (
            sa.insert(LEASES).values(artifact_id=artifact_id, **values)
            if new
            else sa.update(LEASES).where(LEASES.c.artifact_id == artifact_id).values(values)
        )
        connection.execute(change)

    def _free(self, connection: sa.Connection, artifact_id: str) -> None:
        mine = (LEASES.c.artifact_id == artifact_id, LEASES.c.owner == self.owner)
        connection.execute(sa.update(LEASES).where(*mine).values(owner=None))


def _records(rows: Any) -> list[RunRecord]:
    found = []
    columns = set(RUNS.c.keys())
    for row in rows:
        try:
            found.append(RunRecord.read({name: value for name, value in row._mapping.items() if name in columns}))
        except DAMAGE:  # `RunStore.problems` reports it
            continue
    return found
