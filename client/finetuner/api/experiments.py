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
    """One experiment of the Flow."""

    name: str
    """1 to 128 letters, digits, '.', '_' or '-'."""
    status: str
    """'ACTIVE'"""
    created_at: float
    """Seconds since the epoch."""

    def list_runs(self, page: int = 1, size: int = 50) -> list[Run]:
        """Return one page of the experiment's runs, oldest first; see `finetuner.list_runs`."""
        return list_runs(self.name, page, size)

    def get_run(self, name: str) -> Run:
        """Return the run of that name.

        Raises:
            RunNotFound: the experiment has no run of that name.
        """
        return get_run(name, self.name)

    def delete_runs(self) -> None:
        """Delete the experiment's runs; see `finetuner.delete_runs`."""
        delete_runs(self.name)


def create_experiment(name: str = "default") -> Experiment:
    """Return the experiment of that name; create it if it does not exist.

    Raises:
        InvalidInput: the name is malformed; see `Experiment.name`.
    """
    return Experiment(**connection().call(wire.EXPERIMENTS_CREATE, name=name))


def get_experiment(name: str) -> Experiment:
    """Return the experiment of that name.

    Raises:
        ExperimentNotFound: no experiment has that name.
    """
    found = [experiment for experiment in _all() if experiment.name == name]
    if not found:
        known = ", ".join(experiment.name for experiment in _all()) or "none"
        raise ExperimentNotFound(f"experiment must be one of: {known}. Got {name!r}. See list_experiments().")
    return found[0]


def list_experiments(page: int = 1, size: int = 50) -> list[Experiment]:
    """Return one page of the experiments, oldest first.

    Args:
        page: number of the page, from 1.
        size: experiments per page, at least 1.

    Raises:
        InvalidInput: `page` or `size` is below 1.
    """
    return wire.page_of(_all(), page, size)


def delete_experiment(name: str) -> Experiment:
    """Delete an experiment and its runs; their artifacts stay.

    Returns:
        The deleted experiment.

    Raises:
        ExperimentNotFound: no experiment has that name.
        InvalidInput: one of its runs has not ended.
    """
    experiment = get_experiment(name)
    connection().call(wire.EXPERIMENTS_DELETE, name=name)
    return experiment


def delete_experiments() -> list[Experiment]:
    """Delete every experiment with its runs and return them; see `delete_experiment`."""
    return [delete_experiment(experiment.name) for experiment in _all()]


def _all() -> list[Experiment]:
    answer: list[dict[str, Any]] = connection().call(wire.EXPERIMENTS_LIST)
    return [Experiment(**entry) for entry in answer]
