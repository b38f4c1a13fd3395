"""The secret between the gateway and its rooms."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetuner.contract.environment import TOKEN
from finetuner.exceptions import Unauthorized
from finetuner.executors.room.secret import RoomsSecret
from finetuner.workspace.tokens import ROOMS_FILE, TokenFile, rooms_secret


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)


def test_an_open_flow_asks_for_nothing_until_it_has_a_token(tmp_path: Path) -> None:
    secret, given = RoomsSecret(tmp_path), rooms_secret(tmp_path)
    secret.require(None)
    TokenFile(tmp_path).create("ci", "read")
    with pytest.raises(Unauthorized, match=r"must be the gateway of its Flow.* Got another or none\. Send"):
        secret.require(None)
    secret.require(given)
    secret.require(given.encode())


@pytest.mark.parametrize("given", [None, "", b"", "x", "ä", b"\xff"])
def test_with_the_environments_token_it_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | bytes | None
) -> None:
    monkeypatch.setenv(TOKEN, "s3cret")
    rooms_secret(tmp_path)
    with pytest.raises(Unauthorized):
        RoomsSecret(tmp_path).require(given)


def test_a_new_secret_counts_at_once(tmp_path: Path) -> None:
    TokenFile(tmp_path).create("ci", "read")
    old, secret = rooms_secret(tmp_path), RoomsSecret(tmp_path)
    secret.require(old)
    (tmp_path / ROOMS_FILE).unlink()
    new = rooms_secret(tmp_path)
    secret.require(new)
    with pytest.raises(Unauthorized):
        secret.require(old)


def test_a_damaged_secret_opens_nothing(tmp_path: Path) -> None:
    TokenFile(tmp_path).create("ci", "read")
    (tmp_path / ROOMS_FILE).write_bytes(b"")
    with pytest.raises(Unauthorized):
        RoomsSecret(tmp_path).require("")


def test_without_a_gateway_of_ours_nothing_is_required(tmp_path: Path) -> None:
    TokenFile(tmp_path).create("ci", "read")
    RoomsSecret(tmp_path).require(None)
