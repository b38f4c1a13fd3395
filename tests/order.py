"""Which tests stay together in one of the processes of tests, and which come first."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).parents[1]
SHARED_FLOW = "tests/flows/conftest.py"
SHARED_SERVER = "tests/postgres.py"
TOGETHER = ("tests/web", "tests/gateway")
"""Folders whose files share a browser, or two Flows."""
FIRST = (SHARED_FLOW, *TOGETHER, "tests/gpu", "tests/flows", "tests/client/flow", "tests/trainer", "tests/tutorials")
"""In order: the longest first, so that no process is alone with one of them at the end."""


@cache
def group_of(file: str) -> str:
    """Return the file, or what it shares with others: the Flows of a conftest.py, a browser, or a database server."""
    for folder in TOGETHER:
        if file.startswith(f"{folder}/"):
            return folder
    if file.startswith("tests/flows/") and re.search(r"\bflow: RunningFlow", (ROOT / file).read_text()):
        return SHARED_FLOW
    if file.startswith("tests/") and re.search(r'\bpostgres: Postgres|"postgres"', (ROOT / file).read_text()):
        return SHARED_SERVER
    return file


def place_of(item: pytest.Item) -> int:
    """Return the place of a test's file in FIRST."""
    group = group_of(item.path.relative_to(ROOT).as_posix())
    return next((place for place, first in enumerate(FIRST) if group.startswith(first)), len(FIRST))


class ByGroup(LoadFileScheduling):
    """Gives a group to one process, in the order of the collection."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0])
