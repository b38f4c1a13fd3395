"""Image-to-image, from `fit` to search, with a small random ResNet in place of ResNet-50."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from docarray import Document, DocumentArray

import finetuner
from finetuner.catalogue import fashion
from finetuner.config.callbacks import EvaluationCallback
from finetuner.contract.environment import STAND_INS
from finetuner.contract.wire import LABEL_TAG
from finetuner.exceptions import InvalidInput
from finetuner.flow.running_flow import RunningFlow

from .conftest import RESNET

IMAGES = list(fashion("train", items=12))


@pytest.fixture(autouse=True)
def _connected(flow: RunningFlow, monkeypatch: pytest.MonkeyPatch, own_session: None) -> None:
    monkeypatch.setenv(STAND_INS, RESNET)
    finetuner.login(host=flow.host)


def labelled() -> DocumentArray:
    return DocumentArray(Document(blob=image.jpeg, tags={LABEL_TAG: image.item}) for image in IMAGES)


def test_a_resnet_is_tuned_published_and_encodes(tmp_path: Path) -> None:
    documents = labelled()
    run = finetuner.fit(
        model="resnet50",
        train_data=documents,
        loss="TripletMarginLoss",
        batch_size=8,
        epochs=2,
        learning_rate=1e-3,
        num_items_per_class=2,
        callbacks=[EvaluationCallback(query_data=documents[::2], index_data=documents[1::2], limit=3)],
        wait=True,
    )
    metrics = run.metrics()
    assert {"before", "after"} == set(metrics)
    assert any(name.endswith("_precision_at_k") for name in metrics["after"])
    assert len(run.loss_curve()) > 0
    model = finetuner.get_model(run.artifact_id)
    (tmp_path / "image.jpg").write_bytes(IMAGES[0].jpeg)
    vectors = finetuner.encode(model, [str(tmp_path / "image.jpg")])
    assert vectors.shape == (1, model.dim)
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-5)
    zero_shot = finetuner.encode(finetuner.build_model("resnet50"), [str(tmp_path / "image.jpg")])
    assert np.abs(zero_shot - vectors).max() > 1e-4, "tuning changed the model"
    images = labelled()
    finetuner.index(images, artifact=run.artifact_id)
    found = finetuner.search(Document(blob=IMAGES[0].jpeg), limit=1, artifact=run.artifact_id)
    assert found[0].matches[0].id == images[0].id


@pytest.mark.slow
def test_a_head_of_another_size_a_frozen_backbone_and_onnx() -> None:
    run = finetuner.fit(
        "resnet50", labelled(), loss="ArcFaceLoss", loss_options={"margin": 20}, epochs=1, batch_size=8, freeze=True,
        output_dim=16, to_onnx=True, wait=True,
    )  # fmt: skip
    assert " differs from torch by " in run.logs()
    by_torch, by_onnx = (
        finetuner.encode(finetuner.get_model(run.artifact_id, device="cpu", is_onnx=is_onnx), labelled()).embeddings
        for is_onnx in (False, True)
    )
    assert by_torch.shape == (len(IMAGES), 16)
    assert np.abs(by_torch - by_onnx).max() < 1e-4


def test_what_is_for_the_other_kind_of_model_is_refused() -> None:
    for changed, message in (
        ({"loss": "CLIPLoss"}, "loss must be one of"),
        ({"loss": "TripletMarginLos"}, "TripletMarginLoss"),
        ({"miner": "TripletMarginMinr"}, "TripletMarginMiner"),
        ({"loss_options": {"marge": 1}}, "marge"),
        ({"guard_data": "pairs"}, "EvaluationCallback"),
    ):
        with pytest.raises(InvalidInput, match=message):
            finetuner.fit("resnet50", labelled(), **({"loss": "TripletMarginLoss"} | changed))
    for changed in ({"miner": "TripletMarginMiner"}, {"freeze": True}, {"output_dim": 8}, {"num_items_per_class": 2}):
        with pytest.raises(InvalidInput, match="is for image models"):
            finetuner.fit("clip-mini", "pairs", loss="CLIPLoss", **changed)
