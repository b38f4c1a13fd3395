"""A lowest probability through the whole Flow: gRPC, REST and the command line; and scores of one's own queries."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import ir_measures
import numpy as np
import pytest
from docarray import Document, DocumentArray
from ir_measures import R, nDCG
from typer.testing import CliRunner

import finetuner
from finetuner.artifacts.calibrations import CALIBRATION_FILE
from finetuner.artifacts.manifest import Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.catalogue import fashion
from finetuner.cli.main import app
from finetuner.contract.wire import ARTIFACT_TAG
from finetuner.evaluation.calibration import Background, Calibration, Direction
from finetuner.exceptions import InvalidInput
from finetuner.flow.running_flow import RunningFlow
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TEXT, VISION
from finetuner.models.clip_files import load_backbone
from finetuner.workspace.folder import Workspace
from tests.sessions import own_session

IMAGES = list(fashion("test", items=10))
ARTIFACT = "cafe" * 6
HERE: dict[str, Any] = {"filter": {"test": "cut off"}, "artifact": ARTIFACT, "return_content": False}
QUERY = "a red dress"
NUMBERS = Direction(30.0, 0.5, -8.0, 100)


@pytest.fixture(scope="module", autouse=True)
def _filled(flow: RunningFlow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An artifact with a calibration of our own, and its index."""
    file = tmp_path_factory.mktemp("calibration") / CALIBRATION_FILE
    model = load_backbone(find_backbone("clip-mini"))
    rng = np.random.default_rng(0)
    background = Background.of(rng.normal(size=(50, model.dim)).astype(np.float32) / math.sqrt(model.dim), 4)
    calibration = Calibration(ARTIFACT, model.dim, 0.9, {(TEXT, VISION): NUMBERS}, {VISION: background})
    file.write_text(calibration.to_json())
    made = Manifest(
        ARTIFACT, "calibrated", "clip-mini", model.dim, list(model.towers), {}, {},
        datetime.now(UTC).isoformat(timespec="seconds"), "1",
    )  # fmt: skip
    model.model_id = ARTIFACT
    publish_artifact(Workspace(flow.workspace), model, made, {}, kept={CALIBRATION_FILE: file})
    documents = DocumentArray(
        Document(id=f"cut-{image.name}", blob=image.jpeg, tags={"test": "cut off", "item": image.item})
        for image in IMAGES
    )
    with own_session():
        finetuner.login(host=flow.host)
        finetuner.index(documents, artifact=ARTIFACT)
        yield
        finetuner.delete_documents(filter={"test": "cut off"})
        finetuner.drop_collection(ARTIFACT)
    shutil.rmtree(Workspace(flow.workspace).artifacts / ARTIFACT)  # other tests list artifacts


def found(query: Any = QUERY, **asked: Any) -> Document:
    return finetuner.search(query, **{**HERE, **asked})[0]


def chances(document: Document) -> list[float]:
    return [match.scores["probability"].value for match in document.matches]


def test_matches_have_probabilities_and_the_cut_keeps_the_likely_ones(flow: RunningFlow) -> None:
    plain = found()
    assert len(plain.matches) == 20
    assert plain.tags.keys() == {ARTIFACT_TAG}
    known = chances(plain)
    assert known == sorted(known, reverse=True)
    least = (known[4] + known[5]) / 2
    assert found(min_probability=least).matches[:, "id"] == plain.matches[:5, "id"]
    assert chances(found(min_probability=least)) == pytest.approx(known[:5])
    by_item = found(min_probability=least, order_by="item").matches
    assert sorted(by_item[:, "id"]) == sorted(plain.matches[:5, "id"])
    assert by_item[:, "tags__item"] == sorted(by_item[:, "tags__item"])
    assert len(found(min_probability=1.0).matches) == 0, "nothing fits"
    image = found(Document(blob=IMAGES[0].jpeg))
    assert not any("probability" in match.scores for match in image.matches), "images as queries are not calibrated"
    mixed = found(QUERY, positives=[f"cut-{IMAGES[0].name}"])
    assert not any("probability" in match.scores for match in mixed.matches)


def test_what_has_no_calibration_is_refused(flow: RunningFlow) -> None:
    with pytest.raises(InvalidInput, match="queries that are images"):
        found(Document(blob=IMAGES[0].jpeg), min_probability=0.5)
    parts = Document(chunks=[Document(text="red"), Document(text="dress")])
    with pytest.raises(InvalidInput, match="one text or one image"):
        found(parts, min_probability=0.5)
    with pytest.raises(InvalidInput, match="one text or one image"):
        found(QUERY, positives=[Document(text="red")], min_probability=0.5)
    finetuner.index(Document(id="cut-plain", text="x", tags={"test": "cut off"}), artifact="clip-mini")
    with pytest.raises(InvalidInput, match="an artifact that has a calibration. Got 'clip-mini'"):
        found(artifact="clip-mini", min_probability=0.5)


def test_rest_and_the_command_line(flow: RunningFlow) -> None:
    known = chances(found())
    least = (known[2] + known[3]) / 2
    with httpx.Client(base_url=flow.http, timeout=60) as api:
        body = {"queries": [{"text": QUERY}], **HERE}
        plain = api.post("/v1/search", json=body).json()["queries"][0]["matches"]
        assert [match["probability"] for match in plain] == pytest.approx(known)
        assert "scores" not in plain[0]
        cut = api.post("/v1/search", json=body | {"min_probability": least}).json()["queries"][0]["matches"]
        assert cut == plain[:3]
        wrong = api.post("/v1/search", json=body | {"min_probability": 2})
        assert (wrong.status_code, "min_probability" in wrong.text) == (422, True)
        both = api.post("/v1/search", json=body | {"min_probability": 0.5, "hybrid": {"fields": ["text"]}})
        assert "min_probability must come without hybrid" in both.json()["detail"]
    command = ["search", QUERY, "--artifact", ARTIFACT, "--host", flow.host, "--min-probability"]
    shown = CliRunner().invoke(app, [*command, str(least)])
    assert "PROBABILITY" in shown.stdout
    assert shown.stdout.count("cut-") == 3
    assert "Nothing fits" in CliRunner().invoke(app, [*command, "1"]).output


def test_scores_of_own_queries_equal_ir_measures(flow: RunningFlow, tmp_path: Path) -> None:
    grades = {
        image.captions["en"]: {f"cut-{other.name}": 2 - (other.name != image.name) for other in IMAGES
                               if other.item == image.item}
        for image in IMAGES[::2]
    }  # fmt: skip
    grades[QUERY] = {"cut-nowhere": 1, f"cut-{IMAGES[3].name}": 1}
    grades["a blue hat"] = {f"cut-{IMAGES[1].name}": 0}
    scores = finetuner.evaluate_queries(grades, limit=5, artifact=ARTIFACT, filter=HERE["filter"])
    assert (scores.without_relevant, scores.not_indexed, scores.not_indexed_ids) == (1, 1, ("cut-nowhere",))
    assert scores.artifact == ARTIFACT
    asked = {text: given for text, given in grades.items() if any(given.values())}
    ranked = {}
    for text in asked:
        ids = found(text, limit=5).matches[:, "id"]
        ranked[text] = {document: float(len(ids) - rank) for rank, document in enumerate(ids)}
    theirs = {
        (str(one.measure), one.query_id): one.value for one in ir_measures.iter_calc([nDCG @ 5, R @ 5], asked, ranked)
    }
    for score in scores.queries:
        assert score.ndcg == pytest.approx(theirs["nDCG@5", score.query])
        assert score.recall == pytest.approx(theirs["R@5", score.query])
        assert set(score.missed) == {name for name, grade in asked[score.query].items() if grade} - set(score.found)
    assert [score.ndcg for score in scores.queries] == sorted(score.ndcg for score in scores.queries)
    assert scores.metrics["ndcg_at_5"] == pytest.approx(np.mean([score.ndcg for score in scores.queries]))

    file = tmp_path / "own.csv"
    file.write_text("query,document\n" + "".join(f'"{text}",{name}\n' for text in asked for name in asked[text]))
    command = ["evaluate", "--queries", str(file), "--artifact", ARTIFACT, "--host", flow.host, "--limit", "5"]
    shown = CliRunner().invoke(app, [*command, "--worst", "2"])
    assert "recall_at_5" in shown.stdout, shown.output
    assert "1 relevant documents are not indexed: cut-nowhere" in shown.stdout
    assert '"ndcg_at_5"' in CliRunner().invoke(app, [*command, "--json"]).stdout
    with pytest.raises(InvalidInput, match="a grade above 0"):
        finetuner.evaluate_queries({"a": {"b": 0}})
    with pytest.raises(InvalidInput, match="limit must be"):
        finetuner.evaluate_queries(grades, limit=0)
