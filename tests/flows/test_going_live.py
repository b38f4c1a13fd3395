"""A promotion on the real Flow: searches go on, the index follows through the encoders, and rolls back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from docarray import Document, DocumentArray

import finetuner
from finetuner.artifacts.manifest import Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.contract.wire import ARTIFACT_TAG
from finetuner.flow.running_flow import RunningFlow
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TOWERS, Clip
from finetuner.models.model_kinds import load_row
from finetuner.workspace.folder import Workspace

TOKEN = "the-token"
ARTIFACT = "0123456789abcdef01234567"
WORDS = ("red", "green", "blue", "black", "white")
THINGS = ("shirt", "dress", "shoe", "bag", "hat", "coat", "scarf", "sock", "skirt", "belt")
TEXTS = [f"a {colour} {thing}" for colour in WORDS for thing in THINGS]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFlow]:
    """A Flow with a token, 50 documents, and a published artifact that differs from its backbone."""
    with RunningFlow(tmp_path_factory.mktemp("live"), token=TOKEN) as running:
        finetuner.login(host=running.host, token=TOKEN, force=True)
        model = load_row(find_backbone("clip-mini"), "cpu", None)
        assert isinstance(model, Clip)
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in model.network.parameters():
                weight.mul_(1 + 0.02 * torch.randn_like(weight))
        manifest = Manifest(ARTIFACT, "run", "clip-mini", model.dim, [*TOWERS], {}, {}, "2026-01-01", "0")
        publish_artifact(Workspace(running.workspace), model, manifest, {})
        finetuner.index(DocumentArray(Document(id=text, text=text, tags={"length": len(text)}) for text in TEXTS))
        yield running


def matches(text: str, **options: Any) -> DocumentArray:
    return finetuner.search(text, **options)[0].matches


def wait_until_searched(artifact: str) -> None:
    deadline = time.monotonic() + 250
    while (status := finetuner.index_status())["searched"] != artifact:
        found = matches(TEXTS[0], limit=3)
        assert found[0].id == TEXTS[0]
        assert len(set(found[:, f"tags__{ARTIFACT_TAG}"])) == 1
        assert time.monotonic() < deadline, status
    assert status["reindex"]["state"] == "FINISHED"
    assert (status["reindex"]["done"], status["reindex"]["left_out"]) == (50, 0)


def test_search_follows_a_promotion_once_everything_is_encoded(tuned: RunningFlow) -> None:
    assert finetuner.index_status()["searched"] == "clip-mini"
    assert {match.tags[ARTIFACT_TAG] for match in matches(TEXTS[0])} == {"clip-mini"}
    finetuner.promote(ARTIFACT)
    wait_until_searched(ARTIFACT)
    found = matches(TEXTS[7], filter={"length": {"$lt": 12}}, limit=50)
    assert {match.tags[ARTIFACT_TAG] for match in found} == {ARTIFACT}
    assert {match.id for match in found} == {text for text in TEXTS if len(text) < 12}
    assert found[0].scores["cosine"].value == pytest.approx(1, abs=1e-4)
    collections = finetuner.index_status()["collections"]
    assert {(entry["artifact"], entry["count"]) for entry in collections} == {(ARTIFACT, 50), ("clip-mini", 50)}

    finetuner.promote("clip-mini")
    wait_until_searched("clip-mini")
    assert {match.tags[ARTIFACT_TAG] for match in matches(TEXTS[0])} == {"clip-mini"}
    finetuner.drop_collection(ARTIFACT)
    assert [entry["artifact"] for entry in finetuner.index_status()["collections"]] == ["clip-mini"]


def test_documents_by_filter(tuned: RunningFlow) -> None:
    long = {"length": {"$gte": 13}}
    found = finetuner.filter_documents(long, limit=1000)
    assert {document.id for document in found} == {text for text in TEXTS if len(text) >= 13}
    assert found[0].text == found[0].id
    assert finetuner.delete_documents(ids=[TEXTS[0], "never there"], filter=long) == len(found) + 1
    assert finetuner.index_status()["documents"] == 49 - len(found)
    with pytest.raises(finetuner.exceptions.InvalidInput, match="Got 'lenght'. Did you mean 'length'?"):
        finetuner.filter_documents({"lenght": 5})
