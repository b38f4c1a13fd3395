"""An installation without the server's packages, or with one that another package has moved."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from finetuner.demo.demo import run_demo
from finetuner.exceptions import InvalidInput
from finetuner.flow import server_packages
from finetuner.flow.launch import serve
from finetuner.flow.running_flow import RunningFlow
from finetuner.flow.settings import flow_file
from finetuner.flow.standalone import RoomOptions, serve_room


def test_whoever_starts_a_flow_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server_packages, "find_spec", lambda name: None if name == "jina" else name)
    for start in (
        lambda: serve(workspace=tmp_path, grpc_port=0, http_port=0),
        lambda: serve_room(flow_file(), "indexer", RoomOptions(tmp_path)),
        lambda: RunningFlow(tmp_path).__enter__(),
        lambda: run_demo(tmp_path / "demo"),
    ):
        with pytest.raises(InvalidInput, match=r"without jina. Install them: pip install 'open-finetuner\[server\]'"):
            start()
    assert not list(tmp_path.iterdir())


def test_a_jina_that_does_not_import_names_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jina_cli", None)
    with pytest.raises(InvalidInput, match="jina must be importable. Got ModuleNotFoundError.*finetuner doctor"):
        server_packages.load_jina()
