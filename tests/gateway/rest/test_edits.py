"""Datasets that are changed: captions, documents left out, and back again."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from docarray import Document, DocumentArray

from finetuner import make_pair
from finetuner.catalogue import fashion
from finetuner.executors.trainer.uploads import parts
from finetuner.workspace.datasets import Dataset
from tests.gateway.rest.conftest import Handler


@pytest.fixture
def stored(handler: Handler) -> Dataset:
    """Four pairs, and an image without a caption."""
    images = [image.jpeg for image in fashion("train", items=2)]
    documents = DocumentArray(make_pair(f"image {number}", image) for number, image in enumerate(images))
    documents.append(Document(blob=images[0], tags={"finetuner_label": "dress"}))
    return _store(handler, documents)


def _store(handler: Handler, documents: DocumentArray) -> Dataset:
    datasets = handler.trainer._datasets
    datasets.add_part("x", 0, documents)
    return datasets.commit("shop", "x", len(documents))


def edit(handler: Handler, version: str, **changes: Any) -> httpx.Response:
    return handler.client.post(f"{handler.http}/v1/datasets/shop/edit", json={"version": version} | changes)


def captions(handler: Handler, version: str) -> list[list[str]]:
    documents = handler.trainer._datasets.documents(version)
    return [[part.text for part in each.chunks if part.text] for each in documents]


def test_a_change_is_a_new_version_and_is_taken_back(
    handler: Handler, stored: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MAX_REQUEST_DOCUMENTS", 2)
    changes = {"captions": [{"position": 1, "text": " a <b>red</b> dress "}], "removed": [0, 2]}
    made = edit(handler, stored.version, **changes)
    assert made.status_code == 200, made.text
    assert (made.json()["documents"], made.json()["name"]) == (3, "shop")
    version = made.json()["version"]
    assert captions(handler, version) == [["a <b>red</b> dress"], ["image 3"], []]
    assert captions(handler, stored.version)[0] == ["image 0"], "runs keep the version that they read"
    late = edit(handler, stored.version, removed=[0])
    assert (late.status_code, "It has changed meanwhile" in late.text) == (422, True)
    back = edit(handler, version, restore=stored.version)
    assert (back.json()["version"], back.json()["documents"]) == (stored.version, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "restore. Got both or neither"),
        ({"removed": [0], "restore": "0" * 64}, "Got both or neither"),
        ({"removed": [5]}, "position must be below 5"),
        ({"removed": [-1]}, "position must be a whole number"),
        ({"removed": [0, 1, 2, 3, 4]}, "must keep a document"),
        ({"removed": list(range(10_001))}, "removed"),
        ({"captions": [{"position": 4, "text": "a"}]}, "must have one caption to change. Got 0"),
        ({"captions": [{"position": 0, "text": "  "}]}, "caption must be a nonempty text"),
        ({"captions": [{"position": 0, "text": "a" * 70_000}]}, "caption must have 1 to"),
        ({"captions": [{"position": 0}]}, "text"),
        ({"restore": "../../tokens"}, "restore must be an earlier version"),
        ({"added": [1]}, "added"),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(
    handler: Handler, stored: Dataset, changes: dict[str, Any], message: str
) -> None:
    refused = edit(handler, stored.version, **changes)
    assert refused.status_code == 422, refused.text
    assert message in refused.json()["detail"]
    assert handler.trainer._datasets.find("shop").version == stored.version
    assert not [*(handler.trainer.shared_workspace.datasets / "uploads").glob("*")]


def test_a_change_counts_for_the_quota(handler: Handler, stored: Dataset) -> None:
    handler.restart(upload_quota_gb=1e-6)
    assert edit(handler, stored.version, removed=[0]).status_code == 507
    assert handler.trainer._datasets.find("shop").version == stored.version
