"""The worker in this process: its start from an artifact, and its outcome after an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docarray import Document

from finetuner.artifacts.manifest import verify_artifact
from finetuner.documents.pairs import make_pair
from finetuner.exceptions import FinetunerError
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.loop.training import Training
from finetuner.executors.trainer.run_folder import RunFolder

Ask = Callable[..., Any]
Work = Callable[..., tuple[int, RunFolder]]


def test_without_evaluation_data_there_are_no_scores(work: Work, trainer: Trainer) -> None:
    code, folder = work()
    assert code == 0
    assert folder.read("outcome") == {"status": "FINISHED", "details": "Training finished"}
    assert folder.read("scores") is None
    assert verify_artifact(trainer.shared_workspace.artifacts / folder.path.name).metrics == {}


@pytest.mark.seconds
def test_a_run_starts_from_an_artifact_and_its_manifest_names_it(work: Work, trainer: Trainer, ask: Ask) -> None:
    first = work()[1].path.name
    ask(trainer.promote, artifact=first)
    second = work(model_artifact="live")[1].path.name
    manifests = [verify_artifact(trainer.shared_workspace.artifacts / artifact_id) for artifact_id in (first, second)]
    assert [manifest.parent for manifest in manifests] == ["clip-mini", first]
    name = "models/clip-text/weights.safetensors"
    assert manifests[0].files[name]["sha256"] != manifests[1].files[name]["sha256"]


def test_without_cuda_a_run_on_cuda_falls_back_to_the_cpu_with_a_warning(
    work: Work, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    _, folder = work(device="cuda")
    outcome = folder.read("outcome") or {}
    assert outcome["details"] == "Training finished on the CPU (no CUDA device was found)"
    assert "device='cuda' was asked for, and this machine has no CUDA device" in caplog.text


def test_a_dataset_of_broken_images_fails_with_the_reason(
    work: Work, trainer: Trainer, push: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    push(trainer, "broken", [make_pair(f"caption {number}", b"no image %d" % number) for number in range(3)])
    code, folder = work(train_data="broken")
    outcome = folder.read("outcome") or {}
    assert (code, outcome["status"]) == (1, "FAILED")
    assert outcome["details"].startswith("train_data must hold at least two images that can be decoded. Got 0 of 3")
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [outcome["details"]]
    assert not list(trainer.shared_workspace.artifacts.glob("*"))


def test_evaluation_data_of_broken_images_fails_before_training(
    work: Work, trainer: Trainer, push: Callable[..., Any]
) -> None:
    push(trainer, "broken", [make_pair("caption", b"no image")])
    outcome = work(eval_data="broken")[1].read("outcome") or {}
    assert outcome["status"] == "FAILED"
    assert "evaluation data must hold at least one image that can be decoded" in outcome["details"]


@pytest.mark.parametrize(
    ("error", "details"),
    [
        (FinetunerError("loss must be finite. Got nan at step 3"), "loss must be finite. Got nan at step 3"),
        (MemoryError("9 GiB"), "MemoryError: 9 GiB"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
    ],
    ids=["ours", "unexpected", "interrupt"],
)
def test_every_error_becomes_the_outcome(
    error: BaseException, details: str, work: Work, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, trainer: Trainer,
) -> None:  # fmt: skip
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Training, "run", fail)
    code, folder = work()
    assert code == 1
    assert folder.read("outcome") == {"status": "FAILED", "details": details}
    assert ("Traceback" in caplog.text) is not isinstance(error, FinetunerError)
    assert not list(trainer.shared_workspace.artifacts.glob("*"))
    assert [path.name for path in folder.path.iterdir() if path.suffix == ".npy"] == []


def test_an_image_is_loaded_with_all_its_captions(
    work: Work, trainer: Trainer, push: Callable[..., Any], pairs: list[Document], caplog: pytest.LogCaptureFixture
) -> None:
    image = pairs[0].chunks[1].blob
    push(trainer, "captions", [*pairs[1:5], make_pair("one", image), make_pair("two", image)])
    assert work(train_data="captions", batch_size=5)[0] == 0
    assert "Decoded 5 images in" in caplog.text
    assert "Finetuning: 5 images, 3 labels, CLIPLoss, 1 epochs of 1 steps of 5 pairs" in caplog.text


def test_the_folder_of_a_run_is_where_the_trainer_looks(trainer: Trainer, tmp_path: Path) -> None:
    assert trainer.shared_workspace.run("a" * 24) == tmp_path / "workspace" / "runs" / ("a" * 24)
