"""Searches with a lowest probability on every engine; brute force is the oracle."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document

from finetuner.artifacts.calibrations import CALIBRATION_FILE
from finetuner.artifacts.manifest import MANIFEST, Manifest, sealed, sha256_of
from finetuner.contract.search_parameters import SearchParameters
from finetuner.contract.wire import ARTIFACT_TAG, TOWER_TAG
from finetuner.evaluation.calibration import Background, Calibration, Direction
from finetuner.exceptions import CorruptedArtifact, FinetunerError, InvalidInput
from finetuner.executors.indexer.engines.engine import Hit, SearchOptions
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.ranking.cursor import Cursors
from finetuner.executors.indexer.ranking.cut_off import Probabilities
from finetuner.executors.indexer.ranking.pipeline import Found, Pipeline
from finetuner.executors.indexer.ranking.texts import Texts
from finetuner.executors.indexer.retrieval.sizes import Trained
from finetuner.models.clip import TEXT, VISION
from finetuner.workspace.folder import Workspace
from tests.indexer.engines.qdrant_stand_in import embedded, published_interface

COUNT, DIM = 120, 8
A, TEXTS_TOO, ELSE, PLAIN = "a" * 24, "b" * 24, "c" * 24, "d" * 24
RNG = np.random.default_rng(5)
VECTORS = RNG.normal(size=(COUNT, DIM)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
IDS = [f"d{i:03}" for i in range(COUNT)]
QUERY = VECTORS[0]
NUMBERS = {VISION: Direction(3.0, 1.5, -4.0, 60), TEXT: Direction(9.0, 0.0, -8.0, 400)}
BACKGROUND = Background.of(VECTORS[::2], 4)


def calibration(artifact: str, *documents: str) -> Calibration:
    """Return numbers for texts that search documents of these towers."""
    directions = {(TEXT, tower): NUMBERS[tower] for tower in documents}
    return Calibration(artifact, DIM, 0.9, directions, dict.fromkeys(documents, BACKGROUND))


def publish(workspace: Workspace, artifact: str, content: str | None) -> None:
    folder = workspace.artifacts / artifact
    folder.mkdir(parents=True)
    files = {}
    if content is not None:
        (folder / CALIBRATION_FILE).write_text(content)
        size = (folder / CALIBRATION_FILE).stat().st_size
        files[CALIBRATION_FILE] = {"size": size, "sha256": sha256_of(folder / CALIBRATION_FILE)}
    manifest = Manifest(artifact, "run", "clip-mini", DIM, [TEXT, VISION], {}, {}, "2026-01-01", "1", files=files)
    (folder / MANIFEST).write_text(sealed(asdict(manifest)))


def document(i: int, artifact: str, tower: str) -> Document:
    tags = {"n": float(i), "product": f"p{i // 3}", ARTIFACT_TAG: artifact, **({TOWER_TAG: tower} if tower else {})}
    return Document(id=IDS[i], embedding=VECTORS[i], tags=tags)


def kind_of(i: int) -> str:
    return ("", TEXT, VISION)[i % 3]


Search = Callable[..., Found]


@pytest.fixture(scope="module", params=[embedded, published_interface], ids=["edge", "interface"])
def search(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Search]:
    workspace = Workspace(tmp_path_factory.mktemp("cut off"))
    publish(workspace, A, calibration(A, VISION).to_json())
    publish(workspace, TEXTS_TOO, calibration(TEXTS_TOO, VISION, TEXT).to_json())
    publish(workspace, ELSE, calibration(A, VISION).to_json())
    publish(workspace, PLAIN, None)
    with request.param() as engine:
        index = Index(workspace.index, engine)
        for artifact in (A, ELSE, PLAIN):
            assert not any(index.upsert([document(i, artifact, VISION) for i in range(COUNT)]))
        assert not any(index.upsert([document(i, TEXTS_TOO, kind_of(i)) for i in range(COUNT)]))
        pipeline = Pipeline(
            index, Texts(workspace.index / "documents.sqlite"), Cursors("secret"), Probabilities(workspace, index)
        )

        def run(artifact: str = A, limit: int = 10, offset: int = 0, kind: str = TEXT, **asked: Any) -> Found:
            query = Document(embedding=QUERY, tags={ARTIFACT_TAG: artifact})
            given = {name: asked.pop(name) for name in ("filter", "score_threshold") if name in asked}
            options = SearchOptions(limit, offset, index.filter(given.get("filter")), given.get("score_threshold"))
            checked = pipeline.check(SearchParameters.read(asked, limit, offset))
            return pipeline.search(query, artifact, options, checked, kind)

        run.probabilities = Probabilities(workspace, index)  # type: ignore[attr-defined]
        yield run
        index.close()


def chance(i: int, tower: str = VISION) -> float:
    """Return the probability of a document by the formula, with the mean and spread of the background in a loop."""
    numbers = NUMBERS[tower]
    cosine = float(VECTORS[i] @ QUERY)
    mean = float(BACKGROUND.mean @ QUERY)
    variance = BACKGROUND.rest + sum(float(axis @ QUERY) ** 2 for axis in BACKGROUND.axes)
    more = max(0.0, np.log(COUNT / numbers.documents))
    logit = numbers.on_cosine * cosine + numbers.on_z * (cosine - mean) / variance**0.5 + numbers.bias - more
    return float(1 / (1 + np.exp(-logit)))


def best(least: float, passing: Callable[[int], bool] = lambda _: True) -> list[str]:
    order = sorted(range(COUNT), key=lambda i: -float(VECTORS[i] @ QUERY))
    return [IDS[i] for i in order if passing(i) and chance(i) >= least]


def ids(found: Found) -> list[str]:
    return [hit.id for hit in found.hits]


LEAST = sorted(map(chance, range(COUNT)))[-13] - 1e-4  # 13 documents are so likely


def test_the_cut_equals_brute_force(search: Search) -> None:
    assert len(best(LEAST)) == 13
    assert ids(search(min_probability=LEAST, limit=100)) == best(LEAST)
    assert ids(search(min_probability=LEAST)) == best(LEAST)[:10]
    assert ids(search(min_probability=LEAST, offset=10)) == best(LEAST)[10:]
    assert ids(search(min_probability=0.0, limit=100)) == best(0)[:100]
    assert ids(search(min_probability=1.0)) == []
    even = {"filter": {"n": {"$lt": 60}}}
    assert ids(search(min_probability=LEAST, limit=50, **even)) == best(LEAST, lambda i: i < 60)
    high = float(np.sort(VECTORS @ QUERY)[-4]) - 1e-4
    assert ids(search(min_probability=LEAST, score_threshold=high)) == best(LEAST)[:4]


def test_other_features_choose_among_the_likely_ones(search: Search) -> None:
    likely = best(LEAST)
    assert set(ids(search(min_probability=LEAST, diversity=0.5, limit=50))) == set(likely)
    by_number = search(min_probability=LEAST, order_by="n", limit=50)
    assert ids(by_number) == sorted(likely)
    groups = search(min_probability=LEAST, group_by="product", group_size=3, limit=50)
    assert set(ids(groups)) == set(likely)
    seen, cursor = [], "*"
    while cursor:
        page = search(min_probability=LEAST, limit=4, cursor=cursor)
        seen += ids(page)
        cursor = page.report.get("cursor", "")
    assert seen == likely
    assert "nothing" not in search(min_probability=1.0, cursor="*").report


def test_documents_of_two_kinds_have_two_cuts(search: Search) -> None:
    least = 0.3
    order = sorted(range(COUNT), key=lambda i: -float(VECTORS[i] @ QUERY))
    expected = [IDS[i] for i in order if kind_of(i) and chance(i, kind_of(i)) >= least]
    assert expected
    for limit in (1, 3, 100):
        assert ids(search(TEXTS_TOO, limit=limit, min_probability=least)) == expected[:limit]


def test_matches_have_their_probabilities(search: Search) -> None:
    probabilities = search.probabilities  # type: ignore[attr-defined]
    hits = [Hit(IDS[i], float(VECTORS[i] @ QUERY)) for i in range(6)]
    found = probabilities.of(TEXTS_TOO, TEXT, QUERY, hits)
    assert found == pytest.approx({IDS[i]: chance(i, kind_of(i)) for i in range(6) if kind_of(i)})
    assert probabilities.of(A, VISION, QUERY, hits) == {}, "images as queries are not calibrated"
    assert probabilities.of(PLAIN, TEXT, QUERY, hits) == probabilities.of(ELSE, TEXT, QUERY, hits) == {}
    assert probabilities.of("clip-mini", TEXT, QUERY, hits) == {}


@pytest.mark.parametrize(
    ("asked", "error", "expected"),
    [
        ({"artifact": PLAIN}, InvalidInput, "an artifact that has a calibration. Got 'dddd"),
        ({"artifact": ELSE}, CorruptedArtifact, "must be of its own artifact. Got one of 'aaaa"),
        ({"kind": ""}, InvalidInput, "one text or one image"),
        ({"kind": VISION}, InvalidInput, "queries that are images. .*has: text to image"),
        ({"positives": ["d001"]}, InvalidInput, "must come without positives"),
        ({"negatives": ["d001"]}, InvalidInput, "must come without negatives"),
        ({"hybrid": {"fields": ["text"]}}, InvalidInput, "must come without hybrid"),
        (
            {"artifact": TEXTS_TOO, "filter": {"n": {"$in": [0, 3, 6]}}},
            InvalidInput,
            "documents that are images and texts. Got others",
        ),
    ],
)
def test_what_has_no_probability_is_refused(
    search: Search, asked: dict[str, Any], error: type[FinetunerError], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        search(min_probability=0.5, **asked)


def test_a_damaged_calibration_is_named(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    publish(workspace, A, calibration(A, VISION).to_json())
    file = workspace.artifacts / A / CALIBRATION_FILE
    index = Index(workspace.index)
    assert not any(index.upsert([document(0, A, VISION)]))
    broken = json.loads(file.read_text()) | {"absent": 0.1}
    file.write_text(json.dumps(broken))
    probabilities = Probabilities(workspace, index)
    assert probabilities.of(A, TEXT, QUERY, [Hit(IDS[0], 1.0)]) == {}, "a plain search goes on"
    with pytest.raises(CorruptedArtifact, match="SHA-256"):
        probabilities.cut(index.collection(A), A, TEXT, QUERY, 0.5)
    index.close()


def test_a_collection_of_short_vectors_has_no_probabilities(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    publish(workspace, A, calibration(A, VISION).to_json())
    index = Index(workspace.index, dimensions=4, trained=lambda _: Trained(DIM, (4,)))
    short = document(0, A, VISION)
    index.sizes.cut([short])
    assert not any(index.upsert([short]))
    probabilities = Probabilities(workspace, index)
    assert probabilities.of(A, TEXT, QUERY[:4], [Hit(IDS[0], 1.0)]) == {}
    with pytest.raises(InvalidInput, match="must come with whole vectors, .* with the first 4 numbers"):
        probabilities.cut(index.collection(A), A, TEXT, QUERY[:4], 0.5)
    index.close()
