"""Real runs in real worker processes, from CREATED to a published artifact."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from docarray import Document, DocumentArray

from finetuner.artifacts.load import load_artifact
from finetuner.artifacts.manifest import verify_artifact
from finetuner.documents.pairs import make_pair, read_pairs
from finetuner.evaluation.pairs import evaluate_pairs
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer import executor, run_folder
from finetuner.executors.trainer.executor import Trainer
from finetuner.models.backbones import find_backbone
from finetuner.models.clip_files import load_backbone

pytestmark = pytest.mark.process

Ask = Callable[..., Any]
CONFIG = {
    "model": "clip-mini",
    "train_data": "train",
    "eval_data": "test",
    "epochs": 3.0,
    "batch_size": 8.0,
    "val_split": 0.25,
    "scheduler": "cosine",
    "device": "cpu",
    "num_workers": 2.0,
}


@dataclass(frozen=True)
class Done:
    """Two runs of one configuration, recorded together, after both have ended."""

    trainer: Trainer
    seen: list[tuple[str, str]]
    first: dict[str, Any]
    second: dict[str, Any]


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory,
    trainer_at: Callable[..., Any],
    push: Callable[..., Any],
    pairs: list[Document],
    ask: Ask,
    wait_until: Callable[..., None],
) -> Iterator[Done]:
    with trainer_at(tmp_path_factory.mktemp("fit")) as trainer:
        broken = make_pair("an image that broke on its way", pairs[0].chunks[1].blob[:300])
        push(trainer, "train", [*pairs[:5], broken, *pairs[5:], make_pair("the first again", pairs[0].chunks[1].blob)])
        push(trainer, "test", pairs[:8])
        for name in ("first", "second"):
            ask(trainer.fit, config={**CONFIG, "run_name": name})
        seen: list[tuple[str, str]] = []

        def ended() -> bool:
            second, first = (ask(trainer.status_of_run, name=name)["status"] for name in ("second", "first"))
            now = (first, second)  # asked for in this order, a second that has started comes after the first's end
            if now not in seen[-1:]:
                seen.append(now)
            return now == ("FINISHED", "FINISHED") or "FAILED" in now

        wait_until(ended, "the end of both runs")
        runs = [ask(trainer.get_run, name=name) for name in ("first", "second")]
        assert seen[-1] == ("FINISHED", "FINISHED"), ask(trainer.logs_of_run, name="first")["text"]
        yield Done(trainer, seen, *runs)


def folder_of(done: Done, run: dict[str, Any]) -> Path:
    return done.trainer.shared_workspace.artifacts / run["artifact_id"]


def log_of(done: Done, ask: Ask) -> str:
    text: str = ask(done.trainer.logs_of_run, name="first")["text"]
    return text


def test_runs_go_from_created_over_started_to_finished_one_after_the_other(done: Done) -> None:
    assert [states for states in done.seen if states[0] != "CREATED"] == [
        ("STARTED", "CREATED"),
        *([("FINISHED", "CREATED")] if ("FINISHED", "CREATED") in done.seen else []),
        ("FINISHED", "STARTED"),
        ("FINISHED", "FINISHED"),
    ]
    for run in (done.first, done.second):
        assert run["created_at"] <= run["started_at"] <= run["ended_at"]
        assert run["details"] == "Training finished"
    assert done.first["ended_at"] <= done.second["started_at"]


def test_the_artifact_is_whole_and_its_manifest_names_its_origin(done: Done, ask: Ask) -> None:
    manifest = verify_artifact(folder_of(done, done.first))
    assert manifest.artifact_id == done.first["artifact_id"]
    assert (manifest.run_name, manifest.backbone, manifest.parent) == ("first", "clip-mini", "clip-mini")
    assert manifest.towers == ["clip-text", "clip-vision"]
    assert manifest.output_dim == load_backbone(find_backbone("clip-mini")).dim
    assert manifest.data == {
        dataset["name"].replace("test", "eval"): dataset["version"] for dataset in ask(done.trainer.list_datasets)
    }
    assert manifest.metrics == ask(done.trainer.metrics_of_run, name="first")["scores"]
    assert manifest.created_at.endswith("+00:00")
    assert manifest.code_version
    assert set(manifest.files) == {
        "config.yml",
        "metrics.yml",
        "models/open_clip_config.json",
        "models/open_clip_model.safetensors",
        "models/tokenizer.json",
        "models/clip-text/weights.safetensors",
        "models/clip-vision/weights.safetensors",
    }


def test_the_options_in_force_stand_in_the_run_and_the_manifest(done: Done, ask: Ask) -> None:
    assert done.first["config"]["learning_rate"] is None
    resolved = done.first["resolved"]
    steps = resolved["steps"]
    assert resolved == {
        "loss": "CLIPLoss",
        "loss_options": {},
        "optimizer": "Adam",
        "optimizer_options": {
            "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.0, "amsgrad": False, "decoupled_weight_decay": False
        },
        "learning_rate": find_backbone("clip-mini").learning_rate,
        "scheduler": "cosine",
        "scheduler_options": {
            "scheduler_step": "batch", "num_training_steps": steps, "num_warmup_steps": round(0.05 * steps)
        },
        "epochs": 3,
        "steps": steps,
        "batch_size": 8,
        "micro_batch_size": 8,
        "precision": "fp32",
        "seed": done.first["config"]["seed"],
        "device": "cpu",
        "num_processes": 1,
    }  # fmt: skip
    assert f"3 epochs of {steps // 3} steps of 8 pairs" in log_of(done, ask)
    training = verify_artifact(folder_of(done, done.first)).training
    assert sorted(training.pop("fingerprints")) == ["clip-text", "clip-vision"]
    assert training == resolved
    listed = ask(done.trainer.list_runs)
    assert [run["resolved"] for run in listed] == [resolved, resolved]


def test_scores_are_those_of_the_models_before_and_after(done: Done, pairs: list[Document], ask: Ask) -> None:
    scores = ask(done.trainer.metrics_of_run, name="first")["scores"]
    test = read_pairs(pairs[:8])
    assert scores["before"] == pytest.approx(evaluate_pairs(load_backbone(find_backbone("clip-mini")), test))
    assert scores["after"] == pytest.approx(evaluate_pairs(load_artifact(folder_of(done, done.first)), test))


def test_both_towers_were_tuned(done: Done) -> None:
    before = load_backbone(find_backbone("clip-mini")).network.state_dict()
    after = load_artifact(folder_of(done, done.first)).network.state_dict()
    assert set(before) == set(after)
    assert not [name for name in before if name.endswith("weight") and torch.equal(before[name], after[name])]


def test_the_same_seed_gives_the_same_weights_in_another_process(done: Done) -> None:
    files = [verify_artifact(folder_of(done, run)).files for run in (done.first, done.second)]
    for tower in ("clip-text", "clip-vision"):
        name = f"models/{tower}/weights.safetensors"
        assert files[0][name]["sha256"] == files[1][name]["sha256"]


def test_the_log_has_the_lines_of_the_tutorials(done: Done, ask: Ask) -> None:
    text = log_of(done, ask)
    assert all(re.match(r"\[\d\d:\d\d:\d\d\] (INFO|DEBUG|WARNING) +\S", line) for line in text.splitlines()), text
    wanted = [
        r"INFO     Starting run 'first' in experiment 'default'",
        r"INFO     before fine-tuning:",
        r"DEBUG    Metric: 'clip-text-to-clip-vision_precision_at_k' Value: \d\.\d{5}$",
        r"DEBUG    Metric: 'clip-text-to-clip-vision_reciprocal_rank' Value: \d\.\d{5}$",
        r"INFO     Finetuning: 18 images, 12 labels, CLIPLoss, 3 epochs of 3 steps of 8 pairs",
        r"INFO     Epoch 1/3 - step 1/9 - loss \d+\.\d{4} - \d+ pairs/s - waited for data \d+% - .* GB - ETA \d+ s",
        r"INFO     Epoch 3/3 - step 9/9 - loss \d+\.\d{4} - val_loss \d+\.\d{4} - \d+ pairs/s - .* - ETA 0 s",
        r"INFO     after fine-tuning:",
        rf"INFO     Artifact pushed under ID '{done.first['artifact_id']}'",
        r"INFO     Finished",
    ]
    position = 0
    for pattern in wanted:
        found = re.compile(pattern, re.MULTILINE).search(text, position)
        assert found, f"{pattern} does not come after character {position} of\n{text}"
        position = found.end()


def test_one_undecodable_image_among_good_ones_is_a_warning(done: Done, ask: Ask) -> None:
    text = log_of(done, ask)
    assert re.search(r"WARNING +Image of 'an image that broke on its way' left out: image must be", text)
    assert re.search(r"WARNING +1 of 25 images cannot be decoded and are left out", text)


def test_the_loss_curve_has_a_line_for_each_report(done: Done, ask: Ask) -> None:
    steps = ask(done.trainer.metrics_of_run, name="first")["steps"]
    assert [step["step"] for step in steps] == list(range(1, 10))
    assert [step["epoch"] for step in steps] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [step["step"] for step in steps if step["val_loss"] is not None] == [3, 6, 9]
    assert all(math.isfinite(step["loss"]) and step["pairs_per_second"] > 0 for step in steps)
    assert steps[-1]["learning_rate"] < max(step["learning_rate"] for step in steps)


def test_logs_by_offset_give_the_whole_text_in_pieces(done: Done, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = log_of(done, ask)
    for size in (1, 50, 300):  # shorter than every line, than some lines, than no line
        monkeypatch.setattr(run_folder, "LOG_BYTES", size)
        text, offset = "", 0
        while (page := ask(done.trainer.logs_of_run, name="first", offset=float(offset)))["offset"] > offset:
            text, offset = text + page["text"], page["offset"]
        if size > 1:  # single bytes are no characters
            assert text == whole
        assert offset == len(whole.encode())
    assert ask(done.trainer.logs_of_run, name="first", offset=10**9)["text"] == ""
    with pytest.raises(InvalidInput, match="'offset' must be in"):
        ask(done.trainer.logs_of_run, name="first", offset=-1)


def test_a_run_folder_keeps_no_pixels(done: Done) -> None:
    left = {path.name for path in done.trainer.shared_workspace.run(done.first["artifact_id"]).iterdir()}
    assert left == {
        "request.json",
        "process.json",
        "log.txt",
        "scores.json",
        "outcome.json",
        "curve.jsonl",
        "resolved.json",
    }


def test_an_ended_run_can_be_deleted_and_its_name_used_again(done: Done, ask: Ask, still_queue: None) -> None:
    ask(done.trainer.cancel_run, name="second")
    assert ask(done.trainer.get_run, name="second")["status"] == "FINISHED", "a run that has ended is not canceled"
    assert ask(done.trainer.delete_run, name="second")["name"] == "second"
    assert [run["name"] for run in ask(done.trainer.list_runs)] == ["first"]
    assert verify_artifact(folder_of(done, done.second)).run_name == "second", "the artifact stays"


def test_no_dataset_is_needed_any_more(done: Done, ask: Ask) -> None:
    assert ask(done.trainer.delete_dataset, name="test")["documents"] == 8


def test_the_artifact_comes_in_pieces(done: Done, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor.wire, "PIECE_BYTES", 1_000_000)
    artifact_id = done.first["artifact_id"]
    manifest = json.loads(ask(done.trainer.pull_artifact, artifact=artifact_id)["manifest"])
    for name, entry in manifest["files"].items():
        content = bytearray()
        while len(content) < entry["size"]:
            answer: DocumentArray = done.trainer.pull_artifact(
                parameters={"artifact": artifact_id, "file": name, "offset": float(len(content))}
            )
            assert 0 < len(answer[0].blob) <= 1_000_000
            content += answer[0].blob
        assert bytes(content) == (folder_of(done, done.first) / name).read_bytes()
