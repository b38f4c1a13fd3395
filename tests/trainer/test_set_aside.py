"""A planted bad entry in every file and table of the trainer: it is set aside and named, and everything else serves."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from docarray import Document

from finetuner.exceptions import FinetunerServerError, RunNotFound
from finetuner.executors.trainer.executor import Trainer

TrainerAt = Callable[..., AbstractContextManager[Trainer]]
Plant = Callable[[Path, str], object]


def sql(statement: str, *values: object) -> Plant:
    def plant(root: Path, artifact_id: str) -> None:
        with closing(sqlite3.connect(root / "runs.sqlite")) as database, database:
            assert database.execute(f"{statement} WHERE name = 'bad'", values).rowcount

    return plant


def file(name: str, content: bytes = b"{") -> Plant:
    def plant(root: Path, artifact_id: str) -> None:
        path = root / name.format(id=artifact_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return plant


def started(plant: Plant) -> Plant:
    def plant_both(root: Path, artifact_id: str) -> None:
        sql("UPDATE runs SET status = 'STARTED'")(root, artifact_id)
        plant(root, artifact_id)

    return plant_both


ROW = "the row of run 'bad' in runs.sqlite must describe a run"
PLANTS: dict[str, tuple[Plant, str]] = {
    "config": (sql("UPDATE runs SET config = '{'"), ROW),
    "config of a list": (sql("UPDATE runs SET config = '[]'"), ROW),
    "config without device": (sql("UPDATE runs SET config = '{}'"), ROW),
    "config of bytes": (sql("UPDATE runs SET config = ?", b"\xff"), ROW),
    "data": (sql("UPDATE runs SET data = 'null'"), ROW),
    "status": (sql("UPDATE runs SET status = 'RUNNING'"), ROW),
    "time": (sql("UPDATE runs SET created_at = 'yesterday'"), ROW),
    "id": (sql("UPDATE runs SET artifact_id = '../..'"), ROW),
    "process": (started(file("runs/{id}/process.json")), "process.json.damaged was damaged and is set aside"),
    "process of no pid": (started(file("runs/{id}/process.json", b'{"pid": "x"}')), "process.json.damaged"),
    "outcome": (started(file("runs/{id}/outcome.json", b"[]")), "outcome.json.damaged was damaged"),
    "outcome of numbers": (started(file("runs/{id}/outcome.json", b'{"status": "FAILED", "details": 5}')), "outcome"),
    "attempts": (started(file("runs/{id}/attempts.json", b'{"count": "x"}')), "attempts.json.damaged was damaged"),
    "folder": (started(file("runs/{id}", b"")), "run 'bad' waits"),
    "manifest": (file("artifacts/0123456789abcdef01234567/manifest.json"), "0123456789abcdef01234567 is left out"),
    "artifact": (file("artifacts/0123456789abcdef01234567", b""), "0123456789abcdef01234567 is left out"),
    "alias": (file("aliases/x.json"), "must hold the target of one alias"),
    "dataset": (file("datasets/names/x.json", b'{"name": "x", "target": {}}'), "hold the target of one dataset"),
}


@pytest.mark.parametrize(("plant", "problem"), PLANTS.values(), ids=list(PLANTS))
def test_a_bad_entry_is_set_aside_and_the_rest_serves(
    tmp_path: Path,
    still_queue: None,
    trainer_at: TrainerAt,
    push: Callable[..., Any],
    ask: Callable[..., Any],
    pairs: list[Document],
    plant: Plant,
    problem: str,
) -> None:
    with trainer_at(tmp_path) as trainer:
        push(trainer, "pairs", pairs[:4])
        for name in ("bad", "good"):
            run = ask(trainer.fit, config={"model": "clip-mini", "train_data": "pairs", "run_name": name})
            if name == "bad":
                artifact_id = run["artifact_id"]
    plant(tmp_path, artifact_id)
    with trainer_at(tmp_path) as trainer:
        assert any(re.search(problem, found) for found in trainer.problems()), trainer.problems()
        assert "good" in [run["name"] for run in ask(trainer.list_runs)]
        assert ask(trainer.get_run, name="good")["status"] == "CREATED"
        ask(trainer.cancel_run, name="good")
        ask(trainer.delete_run, name="good")
        assert ask(trainer.list_artifacts) == []
        assert [dataset["name"] for dataset in ask(trainer.list_datasets)] == ["pairs"]
        if problem == ROW:
            with pytest.raises(FinetunerServerError, match="Delete the run, or restore"):
                ask(trainer.get_run, name="bad")
            ask(trainer.delete_run, name="bad")
            with pytest.raises(RunNotFound):
                ask(trainer.get_run, name="bad")
            assert trainer.problems() == []


def test_a_damaged_description_of_a_dataset_is_replaced(
    tmp_path: Path, still_queue: None, trainer_at: TrainerAt, push: Callable[..., Any], pairs: list[Document]
) -> None:
    with trainer_at(tmp_path) as trainer:
        version = push(trainer, "one", pairs[:2])["version"]
        (tmp_path / "datasets" / version / "dataset.json").write_text("{")
        assert push(trainer, "two", pairs[:2])["version"] == version
        assert json.loads((tmp_path / "datasets" / version / "dataset.json").read_bytes())["documents"] == 2
        assert len(trainer._datasets.part(version, 0)) == 1
