"""Runs with `matryoshka_dims`: the scores of each size, and the manifest that serving reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from docarray import Document

from finetuner.artifacts.load import load_artifact
from finetuner.artifacts.manifest import Manifest, read_manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.documents.pairs import read_pairs
from finetuner.evaluation.codes import score_codes
from finetuner.evaluation.pairs import encode_pairs, evaluate_pairs
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.models.clip import TOWERS, Clip
from finetuner.models.rows import IMPORTED

Work = Callable[..., tuple[int, RunFolder]]
IMPORTED_ID = "abcdef0123456789abcdef01"
SHORT = {"loss_options": {"matryoshka_dims": [16, 64], "matryoshka_weights": [1, 2, 3]}}


@pytest.mark.seconds
def test_the_artifact_knows_its_sizes_and_the_scores_of_each(
    work: Work, trainer: Trainer, pairs: list[Document], clip_mini: Clip
) -> None:
    code, folder = work(
        loss_options=SHORT["loss_options"] | {"binary_weight": 1.0}, eval_data="pairs", guard_data="pairs"
    )
    assert code == 0
    published = trainer.shared_workspace.artifacts / folder.path.name
    manifest = read_manifest(published)
    assert manifest.short_dims == (64, 16)
    assert manifest.training["loss_options"] == {
        "matryoshka_dims": [64, 16],
        "matryoshka_weights": [1.0, 3.0, 2.0],
        "binary_weight": 1.0,
    }
    tuned = load_artifact(published)
    assert tuned.short_dims == (64, 16)
    for stage, model in (("before", clip_mini), ("after", tuned)):
        expected = evaluate_pairs(model, read_pairs(pairs), dims=(64, 16))
        expected |= score_codes(encode_pairs(model, read_pairs(pairs)), ["binary"])
        scores = manifest.metrics[stage]
        own = {name: value for name, value in scores.items() if not name.startswith("guard_")}
        assert own == pytest.approx(expected, abs=1e-6)
        assert "text_to_image_recall_at_5/16d" in own
        assert len(scores) - len(own) == 6, "the guard scores whole vectors"


@pytest.mark.seconds
def test_a_run_that_starts_from_such_an_artifact_has_its_own_sizes(work: Work, trainer: Trainer) -> None:
    _, folder = work(run_name="short", **SHORT)
    _, later = work(run_name="plain", model_artifact=folder.path.name)
    artifacts = trainer.shared_workspace.artifacts
    assert read_manifest(artifacts / folder.path.name).short_dims == (64, 16)
    assert read_manifest(artifacts / later.path.name).short_dims == ()
    first, second = (load_artifact(artifacts / each.path.name).network.state_dict() for each in (folder, later))
    assert not all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_size_of_an_imported_model_is_compared_before_a_run_exists(
    trainer: Trainer, ask: Callable[..., Any], clip_mini: Clip
) -> None:
    made = Manifest(IMPORTED_ID, "mine", IMPORTED.name, clip_mini.dim, [*TOWERS], {}, {}, "2026-01-01", "0")
    publish_artifact(trainer.shared_workspace, clip_mini, replace(made, training={"imported": "mine"}), {})
    config = {"model": IMPORTED.name, "model_artifact": IMPORTED_ID, "train_data": "pairs", "run_name": "first"}
    with pytest.raises(InvalidInput, match="must be below 128, the size of the model's embeddings, .* Got 200"):
        ask(trainer.fit, config={**config, "loss_options": {"matryoshka_dims": [200]}})
    assert ask(trainer.list_runs) == []
    assert ask(trainer.fit, config={**config, **SHORT})["status"] == "CREATED"
