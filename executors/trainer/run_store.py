"""The table of runs: configuration, state and times of each run."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Gauge

from finetuner.artifacts.registry import ARTIFACT_ID
from finetuner.config.run_config import RunConfig
from finetuner.contract.wire import AWAITS, CREATED, ENDED, RUN_STATES, STARTED
from finetuner.database.dialects import insert_new
from finetuner.database.engine import Database
from finetuner.database.tables import EXPERIMENTS, LEASES, OF_RUNS, RUNS
from finetuner.exceptions import AlreadyExists, DatabaseUnreachable, FinetunerServerError, RunNotFound
from finetuner.workspace.folder import DAMAGE


@dataclass(frozen=True)
class RunRecord:
    """One row of the table: a run."""

    artifact_id: str
    """24 hex characters."""
    experiment: str
    name: str
    config: dict[str, Any]
    """RunConfig.to_dict()"""
    data: dict[str, str]
    """Use, such as 'train' and 'eval' -> content hash, fixed when the run was recorded."""
    status: str
    """CREATED, STARTED, FINISHED, FAILED or CANCELED."""
    details: str
    """One line for people."""
    created_at: float
    """Seconds since the epoch, like the next two."""
    started_at: float | None
    ended_at: float | None

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> RunRecord:
        """Return the run of a row.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: the row is damaged.
        """
        run = cls(**{**row, "config": json.loads(row["config"]), "data": dict(json.loads(row["data"]))})
        if run.status not in RUN_STATES or not ARTIFACT_ID.fullmatch(run.artifact_id):
            raise ValueError(f"{run.status!r:.40} of {run.artifact_id!r:.40}")
        for seconds in (run.created_at, run.started_at or 0, run.ended_at or 0):
            float(seconds)
        run.device, run.num_processes, run.config.keys()  # the queues read them
        return run

    @property
    def device(self) -> str:
        """'cuda', 'gpu' or 'cpu', of the configuration."""
        return str(self.config["device"])

    @property
    def num_processes(self) -> int:
        """Processes that train together, of the configuration."""
        return int(self.config["training_options"].get("num_processes", 1))


class RunStore:
    """The table of runs.

    Args:
        database: that of a server, or the file of an embedded one, created if it does not exist.
    """

    def __init__(self, database: Database | Path) -> None:
        self.database = Database.embedded_file(database) if isinstance(database, Path) else database
        """Of the runs, for `listing` and `leases`."""
        self.database.create(*OF_RUNS)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def create(self, config: RunConfig, data: dict[str, str]) -> RunRecord:
        """Record a run; it waits in its queue from then on.

        Raises:
            AlreadyExists: the experiment has a run of that name.
        """
        artifact_id = secrets.token_hex(12)
        name = config.run_name or f"run-{artifact_id[:8]}"
        values = config.to_dict() | {"run_name": name}
        row = {
            "artifact_id": artifact_id,
            "experiment": config.experiment_name,
            "name": name,
            "config": json.dumps(values),
            "data": json.dumps(data),
            "status": CREATED,
            "details": AWAITS,
            "created_at": time.time(),
        }
        try:
            with self.database.begin() as connection:
                connection.execute(sa.insert(RUNS).values(row))
                insert_new(connection, EXPERIMENTS, name=config.experiment_name, created_at=row["created_at"])
        except sa.exc.IntegrityError as error:
            raise AlreadyExists(
                f"run_name must be new in experiment {config.experiment_name!r}. Got {name!r}, which exists. "
                f"Choose another name, or delete that run."
            ) from error
        return self.get(name, config.experiment_name)

    def get(self, name: str, experiment: str) -> RunRecord:
        """Return a run.

        Raises:
            RunNotFound: no run of this name.
            FinetunerServerError: its row is damaged.
        """
        found, problems = self._read(RUNS.c.name == name, RUNS.c.experiment == experiment)
        if problems:
            raise FinetunerServerError(problems[0])
        if not found:
            raise RunNotFound(f"run must exist in experiment {experiment!r}. Got {name!r}. See finetuner.list_runs().")
        return found[0]

    def all(self, experiment: str | None = None) -> list[RunRecord]:
        """Return the runs of an experiment, or of all, oldest first."""
        return self._select(*([] if experiment is None else [RUNS.c.experiment == experiment]))

    def with_status(self, *statuses: str) -> list[RunRecord]:
        """Return the runs in one of these states, oldest first."""
        return self._select(RUNS.c.status.in_(statuses))

    def problems(self) -> list[str]:
        """Return one sentence for each damaged row, left out of all lists, or for a database that is away."""
        try:
            return self._read()[1]
        except DatabaseUnreachable as error:
            return [str(error)]

    def delete_damaged(self, name: str, experiment: str) -> bool:
        """Delete a run's row if it is damaged, and return whether it was. Its files stay."""
        named = (RUNS.c.name == name, RUNS.c.experiment == experiment)
        if not self._read(*named)[1]:
            return False
        with self.database.begin() as connection:
            connection.execute(sa.delete(RUNS).where(*named))
        return True

    def count(self, status: str) -> int:
        """Return the number of runs in a state."""
        with self.database.connect() as connection:
            found = connection.execute(sa.select(sa.func.count()).where(RUNS.c.status == status))
            return int(found.scalar_one())

    def show(self, registry: CollectorRegistry) -> None:
        """Show the number of runs in each state among the metrics; NaN while the database is away."""
        gauge = Gauge("finetuner_runs", "Runs by status", ["status"], registry=registry)

        def count(status: str) -> float:
            try:
                return self.count(status)
            except DatabaseUnreachable:
                return float("nan")

        for status in RUN_STATES:
            gauge.labels(status).set_function(partial(count, status))

    def move(self, artifact_id: str, status: str, details: str, *, only_from: tuple[str, ...]) -> bool:
        """Put a run into another state; return False if its state is not in `only_from`."""
        with self.database.begin() as connection:
            return move(connection, artifact_id, status, details, only_from)

    def delete(self, artifact_id: str) -> None:
        """Delete a run."""
        with self.database.begin() as connection:
            connection.execute(sa.delete(RUNS).where(RUNS.c.artifact_id == artifact_id))
            connection.execute(sa.delete(LEASES).where(LEASES.c.artifact_id == artifact_id))

    def create_experiment(self, name: str) -> dict[str, Any]:
        """Return the experiment of this name; create it if it does not exist."""
        with self.database.begin() as connection:
            insert_new(connection, EXPERIMENTS, name=name, created_at=time.time())
        return next(entry for entry in self.experiments() if entry["name"] == name)

    def delete_experiment(self, name: str) -> None:
        """Delete an experiment that has no runs."""
        with self.database.begin() as connection:
            connection.execute(sa.delete(EXPERIMENTS).where(EXPERIMENTS.c.name == name))

    def experiments(self) -> list[dict[str, Any]]:
        """Return every experiment as {name, status, created_at}, oldest first."""
        with self.database.connect() as connection:
            rows = connection.execute(sa.select(EXPERIMENTS).order_by(EXPERIMENTS.c.created_at))
            return [{"name": row.name, "status": "ACTIVE", "created_at": row.created_at} for row in rows]

    def _select(self, *conditions: Any) -> list[RunRecord]:
        return self._read(*conditions)[0]

    def _read(self, *conditions: Any) -> tuple[list[RunRecord], list[str]]:
        """Return the runs, and one sentence for each damaged row."""
        runs, problems = [], []
        with self.database.connect() as connection:
            rows = connection.execute(sa.select(RUNS).where(*conditions).order_by(RUNS.c.created_at))
            for row in rows:
                try:
                    runs.append(RunRecord.read(dict(row._mapping)))
                except DAMAGE as error:
                    problems.append(
                        f"the row of run {row.name!r:.140} in {self.database.name} must describe a run. Got "
                        f"{error!r:.200}. It is set aside. Delete the run, or restore a backup."
                    )
        return runs, problems


def move(connection: sa.Connection, artifact_id: str, status: str, details: str, only_from: tuple[str, ...]) -> bool:
    """Put a run into another state within a transaction; return False if its state is not in `only_from`."""
    values: dict[str, Any] = {"status": status, "details": details}
    if status == STARTED:
        values["started_at"] = time.time()
    elif status in ENDED:
        values["ended_at"] = time.time()
    wanted = (RUNS.c.artifact_id == artifact_id, RUNS.c.status.in_(only_from))
    return connection.execute(sa.update(RUNS).where(*wanted).values(values)).rowcount == 1
