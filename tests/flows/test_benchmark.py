"""`finetuner benchmark --tune` on a made set, against the real Flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import finetuner
from finetuner.catalogue import fashion
from finetuner.cli.main import app
from finetuner.flow.running_flow import RunningFlow


def benchmark(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run the command and return the table's rows."""
    done = CliRunner().invoke(app, ["benchmark", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    rows: list[dict[str, Any]] = json.loads((folder / "benchmark.json").read_text())["rows"]
    return rows


@pytest.mark.slow
def test_a_model_is_tuned_on_the_training_split_and_scored_on_the_other(
    flow: RunningFlow, tmp_path: Path, own_session: None
) -> None:
    images = []
    (tmp_path / "Images").mkdir()
    for split in ("train", "test"):
        for image in fashion(split, items=6):
            (tmp_path / "Images" / f"{image.name}.jpg").write_bytes(image.jpeg)
            sentences = [{"raw": caption} for caption in image.captions.values()]
            images.append({"filename": f"{image.name}.jpg", "split": split, "sentences": sentences})
    (tmp_path / "dataset_flickr8k.json").write_text(json.dumps({"images": images, "dataset": "flickr8k"}))
    arguments = ["flickr8k", str(tmp_path), "--model", "clip-mini", "--output", str(tmp_path), "--device", "cpu"]
    tuning = ["--tune", "--epochs", "1", "--batch-size", "8", "--learning-rate", "0.001", "--host", flow.host]
    before, after = benchmark(tmp_path, *arguments, *tuning)
    assert (before["stage"], after["stage"]) == ("zero-shot", "tuned")
    assert before["metrics"] != after["metrics"]
    run = next(one for one in finetuner.list_runs(size=1000) if one.artifact_id == after["artifact"])
    expected = {"train_data": "benchmark-flickr8k-train", "epochs": 1, "batch_size": 8, "learning_rate": 0.001}
    assert {name: run.config[name] for name in expected} == expected
    assert len(finetuner.pull_data("benchmark-flickr8k-train")) == 24
    assert "--tune --epochs 1 --batch-size 8 --learning-rate 0.001" in after["command"]
    _, again = benchmark(tmp_path, *arguments, "--artifact", after["artifact"], "--host", flow.host)
    assert again["metrics"] == after["metrics"]
