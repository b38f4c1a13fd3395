"""`/evaluate` of backbones, artifacts and aliases on datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from docarray import DocumentArray

from finetuner.artifacts.manifest import Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.catalogue import fashion
from finetuner.contract import wire
from finetuner.documents.pairs import Pair, make_pair, read_pairs
from finetuner.evaluation.pairs import evaluate_pairs
from finetuner.exceptions import ArtifactNotFound, DatasetNotFound, FinetunerError, InvalidInput
from finetuner.executors.evaluator.executor import Evaluator
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TOWERS, Clip
from finetuner.models.clip_files import load_backbone
from finetuner.workspace.datasets import Datasets
from finetuner.workspace.folder import Workspace

TUNED = "0123456789abcdef01234567"


def ask(room: Evaluator, **parameters: Any) -> Any:
    return wire.read_reply(room.evaluate(parameters=parameters)[0])


@pytest.fixture(scope="module")
def documents() -> DocumentArray:
    """Eight images, each with a caption in two languages."""
    return DocumentArray(
        make_pair(caption, image.jpeg, {wire.LABEL_TAG: image.item, wire.LANGUAGE_TAG: language})
        for image in fashion("test", items=4)
        for language, caption in image.captions.items()
    )


@pytest.fixture(scope="module")
def pairs(documents: DocumentArray) -> list[Pair]:
    return read_pairs(documents)


@pytest.fixture(scope="module")
def clip_mini() -> Clip:
    return load_backbone(find_backbone("clip-mini"))


@pytest.fixture(scope="module")
def tuned() -> Clip:
    """clip-mini with other weights."""
    model, generator = load_backbone(find_backbone("clip-mini")), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, documents: DocumentArray, tuned: Clip) -> Iterator[Evaluator]:
    workspace = Workspace(tmp_path_factory.mktemp("evaluator"))
    datasets = Datasets(workspace)
    broken = DocumentArray([*documents[:2], make_pair("a broken one", documents[0].chunks[1].blob[:100])])
    for name, content in (("test", documents), ("broken", broken), ("unusable", broken[2:])):
        datasets.add_part(name, 0, content)
        datasets.commit(name, name, len(content))
    publish_artifact(
        workspace, tuned, Manifest(TUNED, "run", "clip-mini", tuned.dim, [*TOWERS], {}, {}, "2026-01-01", "0"), {}
    )
    workspace.aliases.set("candidate", {"artifact": TUNED})
    made = Evaluator(workspace_url=str(workspace.root))
    yield made
    made.close()


def test_a_backbone_is_scored_as_evaluate_pairs_does(room: Evaluator, clip_mini: Clip, pairs: list[Pair]) -> None:
    answer = ask(room, model="clip-mini", data="test")
    assert {key: answer[key] for key in ("model", "data", "documents")} == {
        "model": "clip-mini",
        "data": "test",
        "documents": 16,
    }
    assert answer["metrics"] == evaluate_pairs(clip_mini, pairs)
    assert ask(room, data="test") == answer, "`live` is the backbone until something is promoted"


def test_an_artifact_by_id_and_by_alias(room: Evaluator, tuned: Clip, clip_mini: Clip, pairs: list[Pair]) -> None:
    answer = ask(room, model=TUNED, data="test")
    assert answer["model"] == TUNED
    assert answer["metrics"] == evaluate_pairs(tuned, pairs)
    assert answer["metrics"] != evaluate_pairs(clip_mini, pairs)
    assert ask(room, model="candidate", data="test") == answer


def test_limit_is_the_k_of_the_nine_metrics(room: Evaluator, clip_mini: Clip, pairs: list[Pair]) -> None:
    metrics = ask(room, model="clip-mini", data="test", limit=3.0)["metrics"]
    assert metrics == evaluate_pairs(clip_mini, pairs, limit=3)
    assert metrics["clip-text-to-clip-vision_hit_at_k"] <= metrics["text_to_image_recall_at_5"]


def test_metrics_are_the_nine_the_textbook_ones_and_recalls_both_ways_for_each_language(room: Evaluator) -> None:
    metrics = ask(room, data="test")["metrics"]
    assert sum(name.startswith("clip-text-to-clip-vision_") for name in metrics) == 9 + 3
    assert sum(name.startswith("clip-text-to-clip-vision_textbook_") for name in metrics) == 3
    recalls = {f"{way}_recall_at_{k}" for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)}
    assert recalls | {f"{name}/{language}" for name in recalls for language in ("en", "de")} <= set(metrics)
    assert all(0 <= value <= 5 for value in metrics.values())


def test_a_broken_image_is_left_out(room: Evaluator, clip_mini: Clip, pairs: list[Pair]) -> None:
    answer = ask(room, model="clip-mini", data="broken")
    assert answer["documents"] == 3
    assert answer["metrics"] == evaluate_pairs(clip_mini, pairs[:2])


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({}, InvalidInput, "parameter 'data' is required"),
        ({"data": "none"}, DatasetNotFound, r"Got 'none', .*\(broken, test, unusable\)"),
        ({"data": "../test"}, DatasetNotFound, r"Got '\.\./test'"),
        ({"data": "unusable"}, InvalidInput, "at least one image that can be decoded"),
        ({"data": "test", "model": "nobody"}, ArtifactNotFound, r"an alias \(candidate\) or a backbone.*Got 'nobody'"),
        ({"data": "test", "model": "f" * 24}, ArtifactNotFound, "artifact must be published. Got fff"),
        ({"data": "test", "limit": 0}, InvalidInput, r"'limit' must be in \[1, 1000\]. Got 0"),
        ({"data": "test", "limit": 2.5}, InvalidInput, "'limit' must be a whole number. Got 2.5"),
        ({"data": "test", "k": 5}, InvalidInput, "must be of: model, data, limit. Got k"),
    ],
    ids=str,
)
def test_a_wrong_request_is_refused(
    parameters: dict[str, Any], error: type[FinetunerError], message: str, room: Evaluator
) -> None:
    with pytest.raises(error, match=message) as caught:
        ask(room, **parameters)
    assert type(caught.value) is error


def test_a_room_starts_without_a_model(tmp_path: Path) -> None:
    Evaluator(workspace_url=str(tmp_path)).close()


def test_short_vectors_are_scored_too(documents: DocumentArray, tmp_path: Path, tuned: Clip, pairs: list[Pair]) -> None:
    workspace = Workspace(tmp_path)
    Datasets(workspace).add_part("test", 0, documents)
    Datasets(workspace).commit("test", "test", len(documents))
    training = {"loss_options": {"matryoshka_dims": [64, 16]}}
    manifest = Manifest(TUNED, "run", "clip-mini", tuned.dim, [*TOWERS], {}, {}, "2026-01-01", "0", training=training)
    publish_artifact(workspace, tuned, manifest, {})
    room = Evaluator(workspace_url=str(workspace.root))
    try:
        metrics = ask(room, model=TUNED, data="test")["metrics"]
    finally:
        room.close()
    assert metrics == evaluate_pairs(tuned, pairs, dims=(64, 16))
    assert {name.partition("/")[2] for name in metrics} >= {"64d", "16d"}
