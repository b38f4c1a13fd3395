"""A run in the client: states, log, metrics, and an artifact that is fetched in pieces."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from docarray import Document, DocumentArray

from finetuner.api import examples
from finetuner.api.library import get_model
from finetuner.api.run import Run
from finetuner.artifacts.archive import unzip_artifact
from finetuner.artifacts.manifest import MANIFEST, read_manifest, verify_artifact
from finetuner.contract import wire
from finetuner.exceptions import (
    AlreadyExists,
    CorruptedArtifact,
    FinetunerError,
    InvalidInput,
    RunFailedError,
    RunInProgressError,
    RunPreparingError,
)
from finetuner.transport.connection import Connection
from finetuner.transport.over_grpc import GrpcAnswer

SCORES = {"before": {"clip-text-to-clip-vision_precision_at_k": 0.04035}, "after": {"recall": 0.5}}
STEPS = [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 1.5}]
EVALUATIONS = [
    {"step": 0, "epoch": 0, "metrics": {"clip-text_recall_at_k": 0.1}},
    {"step": 1, "epoch": 1, "metrics": {"val_loss": 2.0}},
    {"step": 2, "epoch": 2, "metrics": {"clip-text_recall_at_k": 0.5, "val_loss": 1.0}},
]
PIXEL = "data:image/jpeg;base64,AAAA"
EXAMPLES = {
    "before": {"a [red] dress": [{"match": "item 7", "relevant": False, "image": PIXEL}]},
    "after": {
        "a [red] dress": [
            {"match": "item 3", "relevant": True, "image": PIXEL},
            {"match": "item <9>", "relevant": False, "image": ""},
        ]
    },
}
PIECE = 1_000_000


class Trainer(Connection):
    """A connection to a stand-in for the trainer with one run, without a network."""

    def __init__(self, folder: Path, log: str, states: list[str]) -> None:
        super().__init__()
        self.folder, self.log, self.states = folder, log.encode(), states
        self.asked: list[str] = []

    def ask(self, endpoint: str, documents: DocumentArray | None, parameters: dict[str, Any]) -> GrpcAnswer:
        return GrpcAnswer(self.answer(endpoint, documents, parameters).to_protobuf().SerializeToString())

    def answer(self, endpoint: str, documents: DocumentArray | None, given: dict[str, Any]) -> DocumentArray:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        status = {"status": state, "details": "out of memory" if state == "FAILED" else ""}
        if endpoint == wire.RUNS_STATUS:
            answer = wire.reply(status)
        elif endpoint == wire.RUNS_LOGS:
            end = self.log.find(b"\n", given["offset"] + 20) + 1 or len(self.log)
            text = self.log[given["offset"] : end].decode()
            answer = wire.reply({"text": text, "offset": max(end, given["offset"]), "status": state})
        elif endpoint == wire.RUNS_METRICS:
            after = given.get("after", 0)
            steps = [step for step in STEPS if step["step"] > after]
            evaluations = [entry for entry in EVALUATIONS if entry["step"] >= after]
            answer = wire.reply({**status, "scores": SCORES, "steps": steps, "evaluations": evaluations})
        elif endpoint == wire.RUNS_EXAMPLES:
            answer = wire.reply({**status, "examples": EXAMPLES})
        elif "file" in given:
            content = (self.folder / given["file"]).read_bytes()
            answer = Document(blob=content[given["offset"] : given["offset"] + PIECE])
        else:
            self.asked.append(given["artifact"])
            answer = wire.reply({"manifest": (self.folder / MANIFEST).read_text()})
        return DocumentArray([answer])


LOG = "starting\nstep 1/2 loss 2.5\nstep 2/2 loss 1.5\nMetric: 'recall' Value: 0.5\nfinished ä\n"


def made(folder: Path, *states: str) -> Run:
    described = {
        "name": "first-run",
        "experiment": "default",
        "config": {"model": "clip-mini", "epochs": 1},
        "artifact_id": folder.name,
        "created_at": 1e9,
    }
    return Run(Trainer(folder, LOG, list(states)), described)


def test_a_run_describes_itself(published: Path) -> None:
    run = made(published, "STARTED")
    assert (run.name, run.experiment_name, run.artifact_id) == ("first-run", "default", published.name)
    assert run.config == {"model": "clip-mini", "epochs": 1}
    assert run.status() == {"status": "STARTED", "details": ""}
    assert published.name in repr(run)


def test_the_whole_log_comes_in_pages(published: Path) -> None:
    assert made(published, "FINISHED").logs() == LOG
    with pytest.raises(RunPreparingError, match="run 'first-run' must have started to have logs"):
        made(published, "CREATED").logs()


@pytest.mark.parametrize("end", ["FINISHED", "FAILED", "CANCELED"])
def test_log_lines_are_streamed_until_the_run_ends(published: Path, end: str) -> None:
    run = made(published, "CREATED", *["STARTED"] * 8, end)
    assert list(run.stream_logs(interval=0.001)) == LOG.splitlines()


def test_waiting_ends_with_the_run(published: Path) -> None:
    assert made(published, "STARTED", "STARTED", "FINISHED").wait(interval=0.001)["status"] == "FINISHED"
    with pytest.raises(RunFailedError, match="run 'first-run' ended as FAILED: out of memory"):
        made(published, "FAILED").wait(interval=0.001)


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("CREATED", RunPreparingError),
        ("STARTED", RunInProgressError),
        ("FAILED", RunFailedError),
        ("CANCELED", RunFailedError),
    ],
)
def test_results_exist_only_once_the_run_has_finished(
    published: Path, tmp_path: Path, state: str, error: type[FinetunerError]
) -> None:
    run = made(published, state)
    for ask in (
        run.metrics,
        run.display_metrics,
        run.example_results,
        run.display_examples,
        lambda: run.save_artifact(str(tmp_path / "out")),
        lambda: run.export("open_clip", tmp_path / "out"),
    ):
        with pytest.raises(error, match="run 'first-run'"):
            ask()
    assert not (tmp_path / "out").exists()
    assert run.loss_curve()[1] == {"step": 2, "loss": 1.5}  # so far
    assert run.history(after=1) == {"steps": STEPS[1:], "evaluations": EVALUATIONS[1:]}
    with pytest.raises(InvalidInput, match="after must be a whole number"):
        run.history(after=-1)
    assert run.evaluations() == [{"step": 2, "epoch": 2, "metrics": {"clip-text_recall_at_k": 0.5}}]


def test_metrics_are_printed_as_the_tutorials_print_them(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made(published, "FINISHED")
    assert run.metrics() == SCORES
    run.display_metrics()
    printed = capsys.readouterr().out
    for expected in ("Retrieval metrics before fine-tuning:", "Retrieval metrics after fine-tuning:", "0.04035"):
        assert expected in printed


def test_metrics_are_printed_as_the_seed_prints_them(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table of the ResNet tutorial, character by character."""
    run = made(published, "FINISHED")
    values = {"resnet50_precision_at_k": 0.936, "resnet50_average_precision": 0.9826666666666665}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "metrics", lambda self: {"before": values})
        run.display_metrics()
    assert capsys.readouterr().out.splitlines() == [
        "Retrieval metrics before fine-tuning:",
        "┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━┓",
        "┃ Retrieval Metric           ┃ Value              ┃",
        "┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━┩",
        "│ resnet50_precision_at_k    │ 0.936              │",
        "│ resnet50_average_precision │ 0.9826666666666665 │",
        "└────────────────────────────┴────────────────────┘",
    ]


def test_examples_are_shown_as_tables_on_a_terminal(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made(published, "FINISHED")
    assert run.example_results() == EXAMPLES
    run.display_examples(k=1)
    printed = capsys.readouterr().out
    for expected in ("Results before fine-tuning:", "Results after fine-tuning:", "a [red] dress", "✓ item 3"):
        assert expected in printed
    assert "item <9>" not in printed, "k is 1"
    assert "base64" not in printed
    with pytest.raises(InvalidInput, match=r"k must be a whole number in \[1, 1000\]. Got 0"):
        run.display_examples(k=0)


def test_examples_are_images_in_a_notebook() -> None:
    page = examples.as_html(EXAMPLES, 5)
    assert page.count(f'<img src="{PIXEL}"') == 2
    assert page.count("solid green") == 1
    assert "item &lt;9&gt;" in page
    hostile = {"before": {"<b>": [{"match": "x", "relevant": False, "image": 'javascript:"'}]}}
    assert "javascript" not in examples.as_html(hostile, 5)
    assert "<b>" not in examples.as_html(hostile, 5)


def test_a_saved_artifact_verifies(published: Path, tmp_path: Path) -> None:
    assert max(entry["size"] for entry in read_manifest(published).files.values()) > PIECE
    path = made(published, "FINISHED").save_artifact(str(tmp_path / "out"))
    assert path == str(tmp_path / "out" / "first-run.zip")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["first-run.zip"]
    assert verify_artifact(unzip_artifact(Path(path), tmp_path / "again")) == verify_artifact(published)


def test_an_artifact_may_be_saved_in_the_home_folder(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert made(published, "FINISHED").save_artifact("~/out") == str(tmp_path / "out" / "first-run.zip")
    assert get_model("~/out/first-run.zip", select_model="clip-text").dim
    assert get_model(Path("~/out/first-run.zip"), select_model="clip-text").dim
    assert not (tmp_path / "~").exists()


def test_a_run_is_exported(published: Path, tmp_path: Path) -> None:
    folder = Path(made(published, "FINISHED").export("open_clip", tmp_path / "out"))
    assert (folder / "open_clip_model.safetensors").is_file()
    with pytest.raises(AlreadyExists, match="directory must not exist yet"):
        made(published, "FINISHED").export("open_clip", folder)


def test_a_model_of_an_alias_exports_the_artifact_that_was_loaded(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(published, LOG, ["FINISHED"])
    monkeypatch.setattr("finetuner.api.library.connection", lambda: trainer)
    model = get_model("live", select_model="clip-text", device="cpu")
    assert Path(model.export("open_clip", tmp_path / "out")) == tmp_path / "out"
    assert trainer.asked == ["live", published.name]


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_artifact_is_not_saved(published: Path, tmp_path: Path, damage: str) -> None:
    folder = Path(shutil.copytree(published, tmp_path / published.name))
    content = bytearray((folder / "config.yml").read_bytes())
    content[0] ^= 1
    (folder / "config.yml").write_bytes(content if damage == "flip" else content[:-1])
    with pytest.raises(CorruptedArtifact, match="config.yml differs"):
        made(folder, "FINISHED").save_artifact(str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []
