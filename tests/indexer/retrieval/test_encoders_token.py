"""What the indexer shows at the gateway when it asks for vectors."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetuner.contract.environment import TOKEN
from finetuner.executors.gateway.access.access import Access, Caller
from finetuner.executors.indexer.retrieval.encoders import Encoders, NoEncoders
from finetuner.executors.indexer.settings import IndexSettings
from finetuner.workspace.tokens import ENVIRONMENT, ROOMS, Role, TokenFile


def shown(root: Path) -> str:
    encoders = IndexSettings(encoder="grpc://127.0.0.1:1").encoders(root)
    assert isinstance(encoders, Encoders)
    return f"token {encoders._flow.token}"


def test_the_gateway_knows_its_rooms_and_lets_them_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    header = shown(tmp_path)
    access = Access(None, tmp_path)
    TokenFile(tmp_path).create("anna", "admin")  # while both are up
    assert access.caller(header) == Caller(ROOMS, Role.READ)


def test_the_environments_token_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "an-admins")
    assert Access("an-admins", tmp_path).caller(shown(tmp_path)) == Caller(ENVIRONMENT, Role.ADMIN)


def test_without_an_address_there_is_nobody_to_ask(tmp_path: Path) -> None:
    assert isinstance(IndexSettings().encoders(tmp_path), NoEncoders)
    assert list(tmp_path.iterdir()) == []
