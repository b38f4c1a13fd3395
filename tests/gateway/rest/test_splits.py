"""Datasets that are split in two, and files whose rows come behind those of a dataset."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from docarray import Document, DocumentArray

from finetuner import make_pair
from finetuner.catalogue import fashion
from finetuner.executors.trainer.uploads import samples
from finetuner.workspace.datasets import Dataset
from tests.gateway.rest.conftest import Handler


@pytest.fixture
def stored(handler: Handler) -> Dataset:
    """Ten images, each in two pairs."""
    images = [image.jpeg for image in fashion("train", items=5)]
    documents = DocumentArray(make_pair(f"caption {turn}", image) for turn in range(2) for image in images)
    return store(handler, "shop", documents)


def store(handler: Handler, name: str, documents: DocumentArray) -> Dataset:
    datasets = handler.trainer._datasets
    datasets.add_part(name, 0, documents)
    return datasets.commit(name, name, len(documents))


def split(handler: Handler, present: str, **changes: Any) -> httpx.Response:
    body = {"version": present, "train": "shop-train", "evaluation": "shop-eval", "share": 0.3} | changes
    return handler.client.post(f"{handler.http}/v1/datasets/shop/split", json=body)


def images_of(handler: Handler, version: str) -> list[bytes]:
    return [part.blob for each in handler.trainer._datasets.documents(version) for part in each.chunks if part.blob]


def test_pairs_of_one_image_stay_together_and_nothing_is_lost(handler: Handler, stored: Dataset) -> None:
    made = split(handler, stored.version)
    assert made.status_code == 200, made.text
    sides = [made.json()["train"], made.json()["evaluation"]]
    assert [(each["name"], each["documents"]) for each in sides] == [("shop-train", 14), ("shop-eval", 6)]
    train, evaluation = (images_of(handler, each["version"]) for each in sides)
    assert not set(train) & set(evaluation)
    assert sorted(train + evaluation) == sorted(images_of(handler, stored.version))
    assert split(handler, stored.version).status_code == 409, "nothing is overwritten"
    again = split(handler, stored.version, train="a", evaluation="b")
    assert again.json()["evaluation"]["version"] == sides[1]["version"], "the same data is split in the same way"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "0" * 64}, "It has changed meanwhile"),
        ({"train": "shop"}, "must be two new names"),
        ({"train": "shop-eval"}, "must be two new names"),
        ({"train": "../x"}, "train"),
        ({"evaluation": "<img src=x onerror=alert(1)>"}, "evaluation"),
        ({"share": 0.95}, "share"),
        ({"share": True}, "share must be a number"),
        ({"seed": 1}, "seed is not a field"),
    ],
)
def test_a_split_that_makes_no_sense_makes_nothing(
    handler: Handler, stored: Dataset, changes: dict[str, Any], message: str
) -> None:
    refused = split(handler, stored.version, **changes)
    assert (refused.status_code, message in refused.json()["detail"]) == (422, True), refused.text
    assert [each.name for each in handler.trainer._datasets.all()] == ["shop"]
    assert not [*(handler.trainer.shared_workspace.datasets / "uploads").glob("*")]


def test_sample_data_is_made_once_and_replaces_nothing(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "ITEMS", 2)
    made = handler.client.post(f"{handler.http}/v1/datasets/try/sample")
    assert (made.status_code, made.json()["kind"], made.json()["documents"]) == (200, "pairs", 4), made.text
    assert handler.client.post(f"{handler.http}/v1/datasets/try/sample").status_code == 409
    assert handler.client.post(f"{handler.http}/v1/datasets/..%2fx/sample").status_code in (404, 422)


def test_labels_stay_together_and_one_alone_is_not_split(handler: Handler) -> None:
    jpegs = [image.jpeg for image in fashion("train", items=3)]
    tags = [{"finetuner_label": label} for label in ("dress", "coat", "shirt")]
    one = store(handler, "shop", DocumentArray(Document(blob=each, tags=tags[0]) for each in jpegs))
    assert "two different images, or labels" in split(handler, one.version).json()["detail"]
    mixed = (Document(blob=jpeg, tags=tags[at % 3]) for at, jpeg in enumerate(jpegs))
    three = store(handler, "shop", DocumentArray(mixed))
    made = split(handler, three.version).json()
    assert (made["train"]["documents"], made["evaluation"]["documents"]) == (4, 2)
