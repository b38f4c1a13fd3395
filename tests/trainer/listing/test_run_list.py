"""The list of runs, page by page, and what people write beside a run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from finetuner.contract.wire import read_reply
from finetuner.database.shared import shared_database
from finetuner.exceptions import AlreadyExists, InvalidInput
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.run_store import RunStore

Ask = Callable[..., Any]
CONFIG = {"model": "clip-mini", "train_data": "pairs", "device": "cpu", "batch_size": 8, "epochs": 1}
METRIC = "text_to_image_recall_at_5"
SCORES = {"a": 0.5, "b": 0.9, "c": None, "d": 0.7}
HOSTILE = "<img src=x onerror=alert(1)>' OR 1=1 --"


def page(trainer: Trainer, **asked: Any) -> Any:
    """Return the answer of `/runs/page`, which runs beside other requests."""
    endpoint: Any = trainer.page_of_runs
    return read_reply(asyncio.run(endpoint(docs=None, parameters=asked))[0])


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.seconds)])
def runs(request: pytest.FixtureRequest, ask: Ask) -> Trainer:
    """Four canceled or finished runs, c without scores, and a waiting one, e; in either database."""
    if request.param == "postgresql":
        request.getfixturevalue("postgres")
    trainer: Trainer = request.getfixturevalue("trainer")
    root = trainer.shared_workspace.root
    store = RunStore(shared_database(root) or trainer.shared_workspace.runs_database)
    for name in "abcde":
        run = ask(trainer.fit, config={**CONFIG, "run_name": name, "experiment_name": "x" if name < "c" else "y"})
        if name == "e":
            break
        status = "CANCELED" if name == "c" else "FINISHED"
        store.move(run["artifact_id"], status, "", only_from=("CREATED",))
        folder = trainer.shared_workspace.run(run["artifact_id"])
        folder.mkdir(parents=True)
        if SCORES[name] is not None:
            (folder / "scores.json").write_text(json.dumps({"before": {}, "after": {METRIC: SCORES[name]}}))
    store.close()
    return trainer


def test_pages_are_filtered_and_sorted_as_a_plain_loop_does(runs: Trainer, ask: Ask) -> None:
    def names(**asked: Any) -> str:
        found = page(runs, **asked)
        whole = [run["name"] for number in (1, 2, 3) for run in page(runs, **asked, size=2, page=number)["items"]]
        assert whole == [run["name"] for run in found["items"]], "pages are parts of the whole"
        assert found["total"] == len(whole)
        return "".join(whole)

    assert (names(), names(descending=False)) == ("edcba", "abcde")
    assert names(sort="name", descending=False) == "abcde"
    assert names(status="FINISHED,CANCELED") == "dcba"
    assert names(experiment="x") == "ba"
    assert names(model="clip-mini", data="pairs") == "edcba"
    assert names(model="ViT-B-32::openai") == names(data="pair_") == names(text="%") == names(text=HOSTILE) == ""
    assert names(text="A", since=1) == "a"
    assert names(until=1) == ""
    by_score = sorted((name for name in "abd"), key=lambda name: SCORES[name] or 0)
    assert names(sort="metric", metric=METRIC, descending=False)[:3] == "".join(by_score)
    assert names(sort="metric", metric=METRIC)[:3] == "".join(by_score[::-1])
    assert names(metric=METRIC, least=0.7) == "db"
    (found,) = page(runs, text="b")["items"]
    assert found["metrics"]["after"] == {METRIC: 0.9}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"sort": "price"}, "sort must be one of"),
        ({"status": "DONE"}, "status must be one of"),
        ({"sort": "metric"}, "metric must be named"),
        ({"text": "x" * 257}, "at most 256 characters"),
        ({"size": 1001}, "must be in"),
        ({"since": float("nan")}, "since"),
    ],
)
def test_a_page_that_makes_no_sense_is_refused(trainer: Trainer, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        page(trainer, **asked)


def test_a_run_gets_a_note_tags_and_another_name(runs: Trainer, ask: Ask) -> None:
    before = ask(runs.changes_of_runs)
    assert before["counts"] == {"CREATED": 1, "STARTED": 0, "FINISHED": 3, "FAILED": 0, "CANCELED": 1}
    edited = ask(runs.edit_run, name="a", experiment="x", new_name="best", note=HOSTILE, tags=["good", HOSTILE[:28]])
    assert (edited["name"], edited["config"]["run_name"], edited["note"]) == ("best", "best", HOSTILE)
    assert edited["tags"] == ["good", HOSTILE[:28]]
    assert ask(runs.changes_of_runs)["version"] != before["version"]
    assert [run["name"] for run in page(runs, tag="good")["items"]] == ["best"]
    assert page(runs, tag="goo")["total"] == 0, "a tag is found as a whole"
    assert ask(runs.edit_run, name="best", experiment="x", tags=[])["note"] == HOSTILE, "the note stays"
    with pytest.raises(AlreadyExists, match="'b', which exists"):
        ask(runs.edit_run, name="best", experiment="x", new_name="b")
    with pytest.raises(InvalidInput, match="must have ended to get another name"):
        ask(runs.edit_run, name="e", experiment="y", new_name="other")
    ask(runs.delete_run, name="best", experiment="x")
    assert page(runs, text="OR 1=1")["total"] == 0, "the note goes with its run"


@pytest.mark.parametrize(
    "edit",
    [{}, {"new_name": "../x"}, {"note": "x" * 2001}, {"note": 5}, {"tags": "good"}, {"tags": ["a,b"]}, {"tags": [""]},
     {"tags": ["x" * 41]}, {"tags": ["\n"]}, {"tags": list("abcdefghijklmnopq")}],
    ids=["nothing", "path", "long-note", "number", "text", "comma", "empty", "long-tag", "line", "many"],
)  # fmt: skip
def test_an_edit_that_makes_no_sense_is_refused(runs: Trainer, ask: Ask, edit: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        ask(runs.edit_run, name="a", experiment="x", **edit)
