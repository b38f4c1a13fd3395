"""Runs with to_onnx: the artifact holds a file for each tower, or the run fails."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from docarray import Document

from finetuner.artifacts.load import load_artifact, load_onnx_artifact
from finetuner.artifacts.manifest import read_manifest, sha256_of, verify_artifact
from finetuner.contract.environment import STAND_INS
from finetuner.contract.wire import LABEL_TAG
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.models.clip import TOWERS
from finetuner.onnx import export as onnx_export

Work = Callable[..., tuple[int, RunFolder]]
TEXTS = ["a red dress", "ein blaues Hemd mit langen Ärmeln"]


@pytest.mark.slow
def test_the_artifact_holds_the_tuned_towers_and_int8_with_its_loss(
    work: Work, trainer: Trainer, caplog: pytest.LogCaptureFixture
) -> None:
    code, folder = work(to_onnx="int8", eval_data="pairs")
    assert code == 0
    published = trainer.shared_workspace.artifacts / folder.path.name
    files = verify_artifact(published).files
    for tower in TOWERS:
        file = published / "models" / tower / "model.onnx"
        assert files[f"models/{tower}/model.onnx"] == {
            "size": file.stat().st_size,
            "sha256": sha256_of(file),
        }
        assert f"models/{tower}/model-int8.onnx" in files
        assert re.search(rf"ONNX of {tower} differs from torch by \d\.\de-0[5-9]", caplog.text)
    tuned = load_artifact(published).encode_texts(TEXTS)
    assert np.abs(load_onnx_artifact(published, TOWERS[0]).encode_texts(TEXTS) - tuned).max() < 1e-4
    found = re.search(
        r"int8 on (\d+) texts of evaluation data: text_to_image_recall_at_5 ([\d.]+) -> [\d.]+", caplog.text
    )
    assert found is not None
    metrics = read_manifest(published).metrics["after"]
    assert abs(float(found[2]) - metrics["text_to_image_recall_at_5"]) < 1e-4
    assert "int8 of clip-vision: cosine to fp32 0.99" in caplog.text


def test_without_to_onnx_there_is_no_file(work: Work, trainer: Trainer) -> None:
    _, folder = work()
    assert not [
        name for name in verify_artifact(trainer.shared_workspace.artifacts / folder.path.name).files if "onnx" in name
    ]


@pytest.mark.seconds
def test_a_difference_from_torch_fails_the_run(
    work: Work, trainer: Trainer, push: Callable[..., Any], pairs: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STAND_INS, "resnet50=resnet-mini-random")
    monkeypatch.setattr(onnx_export, "MAX_DIFFERENCE", 0.0)
    images = [Document(blob=pair.chunks[1].blob, tags={LABEL_TAG: pair.tags[LABEL_TAG]}) for pair in pairs]
    push(trainer, "images", images)
    code, folder = work(model="resnet50", train_data="images", loss="TripletMarginLoss", to_onnx=True)
    outcome = folder.read("outcome") or {}
    assert (code, outcome["status"]) == (1, "FAILED")
    assert re.match(r"\S+ in ONNX must differ from torch by at most 0. Got", outcome["details"])
    assert not list(trainer.shared_workspace.artifacts.iterdir())
