"""A run on pairs with scores, from the dataset to the artifact, in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from docarray import Document

from finetuner.artifacts.load import load_artifact
from finetuner.artifacts.manifest import read_manifest
from finetuner.contract.wire import SCORE_TAG
from finetuner.documents.pairs import make_pair, read_pairs
from finetuner.evaluation.pairs import evaluate_pairs, text_to_image_graded_ndcg
from finetuner.executors.trainer.executor import Trainer
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip
from finetuner.models.clip_files import load_backbone
from tests.trainer.short_training import equal

Work = Callable[..., Any]


@pytest.fixture
def graded(pairs: list[Document], trainer: Trainer, push: Callable[..., Any]) -> list[Document]:
    """16 pairs of four captions and eight images, with a score for each, as a dataset of this name."""
    captions = [pairs[row].chunks[0].text for row in (0, 2, 4, 6)]
    made = [
        make_pair(captions[(row + other) % 4], pairs[row].chunks[1].blob, {SCORE_TAG: float((row + 3 * other) % 4)})
        for row in range(8)
        for other in range(2)
    ]
    push(trainer, "graded", made)
    return made


def model_of(trainer: Trainer, folder: Any) -> Clip:
    model = load_artifact(trainer.shared_workspace.artifacts / folder.path.name)
    assert isinstance(model, Clip)
    return model


@pytest.mark.seconds
def test_scored_pairs_train_and_are_scored_by_their_grades(
    graded: list[Document], work: Work, trainer: Trainer, caplog: pytest.LogCaptureFixture
) -> None:
    code, folder = work(train_data="graded", eval_data="graded", batch_size=4)
    assert code == 0
    scores = folder.read("scores")
    models = {"before": load_backbone(find_backbone("clip-mini")), "after": model_of(trainer, folder)}
    for stage, model in models.items():
        assert scores[stage] == pytest.approx(evaluate_pairs(model, read_pairs(graded)))
        assert 0 < scores[stage][text_to_image_graded_ndcg()] <= 1
    assert "8 images, CLIPLoss, scores 0 to 3, linear weights" in caplog.text
    manifest = read_manifest(trainer.shared_workspace.artifacts / folder.path.name)
    assert manifest.training["loss_options"] == {"score_weights": "linear"}
    assert text_to_image_graded_ndcg() in manifest.metrics["after"]


@pytest.mark.seconds
def test_the_choice_of_weights_changes_the_published_model(
    graded: list[Document], work: Work, trainer: Trainer
) -> None:
    networks = []
    for choice in ("linear", "constant"):
        code, folder = work(train_data="graded", batch_size=4, loss_options={"score_weights": choice})
        assert code == 0
        networks.append(model_of(trainer, folder).network.state_dict())
    assert not equal(*networks)
