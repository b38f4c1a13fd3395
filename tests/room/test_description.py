"""What a room says of itself to administrators."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest

from finetuner.executors.room.description import MOST_LINES, describe, keep_lines
from finetuner.executors.room.settings import RoomSettings


@dataclass(frozen=True)
class Group:
    """A group of settings."""

    api_key: str = "a secret"
    keys: int = 3


@dataclass(frozen=True)
class Settings(RoomSettings):
    """Settings with credentials."""

    qdrant_token: str = "another secret"
    empty_token: str = ""
    url: str = "https://anna:pass@example.org/x"
    group: Group = field(default_factory=Group)


def test_settings_are_shown_without_credentials() -> None:
    shown = describe(Settings())["settings"]
    assert shown == {
        "workspace_url": "workspace",
        "qdrant_token": "***",
        "empty_token": "",
        "url": "https://***@example.org/x",
        "api_key": "***",
        "keys": "***",
    }


def test_the_last_lines_of_the_log_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.Logger, "handle", logging.Logger.handle)  # restored afterwards
    keep_lines()
    for number in range(MOST_LINES + 5):
        logging.getLogger("room").warning("line %d of http://u:p@host %s", number, "x" * 1000)
    log = describe(Settings())["log"]
    assert len(log) == MOST_LINES
    assert f"WARNING line {MOST_LINES + 4} of http://***@host x" in log[-1]
    assert max(map(len, log)) < 600
    assert describe(Settings())["memory"] > 10**6
