"""The Python of README.md and of the pages in docs/ runs as it stands there, against one Flow."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import finetuner
from finetuner.contract.environment import HOST
from finetuner.flow.running_flow import RunningFlow
from tests.snippets import EXPECTED, PAGES, ROOT, blocks, python

from .conftest import empty_index

README = ROOT / "README.md"
GRPC, HTTP = "grpc://127.0.0.1:51000", "http://127.0.0.1:51001"


@pytest.fixture
def names(flow: RunningFlow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_session: None) -> dict[str, object]:
    """An empty namespace, in an empty folder, before any login. What other tests have indexed is gone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(HOST, flow.host)
    empty_index(flow)
    return {}


def here(code: str, flow: RunningFlow) -> str:
    """Return code with the addresses of the Flow."""
    return code.replace(GRPC, flow.host).replace(HTTP, flow.http)


def test_the_readme_in_small(flow: RunningFlow, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    exec(smaller(here(python(README), flow)), names)
    recall, found = printed_by(capsys.readouterr().out)
    assert list(recall) == ["before", "after"]
    assert len(found) == 3
    finetuner.promote("clip-mini")


@pytest.mark.slow
def test_the_readme(flow: RunningFlow, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    exec(here(python(README), flow), names)
    for output in (capsys.readouterr().out, *blocks(README, "text")):  # the README shows such a run
        recall, found = printed_by(output)
        assert recall["after"] > 2 * recall["before"]
        assert len(found) == 3
        assert any("black" in caption and ("t-shirt" in caption or "tee" in caption) for caption in found), found
    metrics = names["run"].metrics()
    assert all(value > metrics["before"][name] for name, value in metrics["after"].items()), metrics
    finetuner.promote("clip-mini")


def printed_by(output: str) -> tuple[dict[str, float], list[str]]:
    """Return the recall by stage and the captions that the README's code has printed."""
    recall, found = (ast.literal_eval(line) for line in re.findall(r"^[{[].*?[}\]]$", output, re.MULTILINE | re.DOTALL))
    return recall, found


def smaller(code: str) -> str:
    """Return code with a tenth of its items, and one epoch."""
    return code.replace("items=400", "items=40").replace("items=100", "items=10").replace("epochs=6", "epochs=1")


LONG = ("models", "callbacks")  # pages whose code trains for longer than the others'


def pages() -> list[Any]:
    found = [path for path in PAGES if blocks(path, "python")]
    return [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in LONG)) for path in found]


@pytest.mark.parametrize("page", pages())
def test_a_page(page: Path, flow: RunningFlow, names: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    code = python(page)
    exec(smaller(here(code, flow)), names)
    printed = capsys.readouterr().out.splitlines()
    for expected in EXPECTED.findall(code):
        assert expected in printed
    finetuner.promote("clip-mini")
