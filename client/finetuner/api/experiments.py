"""Experiments: named groups of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..contract import wire
from ..exceptions import ExperimentNotFound
from .run import Run
from .runs import delete_runs, get_run, list_runs
from .session import connection


@dataclass(frozen=True)
class Experiment:
    """One experiment."""

    name: str
    """1 to 128 letters, digits, '.', '_' or '-'."""
    status: str
    """'ACTIVE'"""
    created_at: float
    """Seconds since the epoch."""

    def list_runs(self, page: int = 1, size: int = 50) -> list[Run]:
        """Return its runs, oldest first; see `finetuner.list_runs`."""
        return list_runs(self.name, page, size)

    def get_run(self, name: str) -> Run:
        """Return one of its runs.

        Raises:
            RunNotFound: none of that name.
        """
        return get_run(name, self.name)

    def delete_runs(self) -> None:
        """Forget all of its runs that have ended; see `finetuner.delete_runs`."""
        delete_runs(self.name)


def create_experiment(name: str = "default") -> Experiment:
    """Return the experiment of that name, made if it is not there yet.

    Raises:
        InvalidInput: a name of another form.
    """
    return Experiment(**connection().call(wire.EXPERIMENTS_CREATE, name=name))


def get_experiment(name: str) -> Experiment:
    """Return an experiment.

    Raises:
        ExperimentNotFound: none of that name.
    """
    found = [experiment for experiment in _all() if experiment.name == name]
    if not found:
        known = ", ".join(experiment.name for experiment in _all()) or "none"
        raise ExperimentNotFound(f"experiment must be one of: {known}. Got {name!r}. See list_experiments().")
    return found[0]


def list_experiments(page: int = 1, size: int = 50) -> list[Experiment]:
    """Return one page of the experiments, oldest first.

    Args:
        page: from 1.
        size: experiments a page, from 1.

    Raises:
        InvalidInput: a page or size below 1.
    """
    return wire.page_of(_all(), page, size)


def delete_experiment(name: str) -> Experiment:
    """Forget an experiment and its runs; artifacts stay.

    Returns:
        What was forgotten.

    Raises:
        ExperimentNotFound: none of that name.
        InvalidInput: one of its runs has not ended.
    """
    experiment = get_experiment(name)
    connection().call(wire.EXPERIMENTS_DELETE, name=name)
    return experiment


def delete_experiments() -> list[Experiment]:
    """Forget every experiment with its runs; see `delete_experiment`."""
    return [delete_experiment(experiment.name) for experiment in _all()]


def _all() -> list[Experiment]:
    answer: list[dict[str, Any]] = connection().call(wire.EXPERIMENTS_LIST)
    return [Experiment(**entry) for entry in answer]
