"""Marks through the Flow: gRPC, REST, client and commands."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from docarray import Document, DocumentArray
from PIL import Image
from typer.testing import CliRunner

import finetuner
from finetuner.api.feedback.pairs import FeedbackData, is_held_out
from finetuner.catalogue import fashion
from finetuner.cli.main import app
from finetuner.contract import wire
from finetuner.documents.pairs import make_pair, read_pairs
from finetuner.exceptions import AlreadyExists, InvalidInput
from finetuner.flow.running_flow import RunningFlow
from tests.flows.conftest import empty_index
from tests.sessions import own_session

pytestmark = [pytest.mark.flow, pytest.mark.seconds]


@pytest.fixture(scope="module")
def marked(flow: RunningFlow) -> Iterator[RunningFlow]:
    """Three images in the index, and no marks."""
    empty_index(flow)
    with own_session():
        finetuner.login(host=flow.host)
        finetuner.index(DocumentArray([Document(id=name, blob=image(name)) for name in ("red", "green", "blue")]))
        yield flow
        finetuner.delete_feedback(user="")


def image(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(file, "PNG")
    return file.getvalue()


def test_a_search_is_marked_listed_exported_and_deleted(marked: RunningFlow, tmp_path: Path) -> None:
    found = finetuner.search("a red square", artifact="clip-mini")[0]
    shown = [match.id for match in found.matches]
    assert set(shown) == {"red", "green", "blue"}
    first = finetuner.feedback(found, chosen="red", refused=["blue"])
    second = finetuner.feedback(Document(blob=image("green")), ["green", "red"], chosen=["green"], offset=20)
    assert finetuner.feedback(found, chosen="red", refused=["blue"], mark_id=first) == first, "a retry"
    with pytest.raises(AlreadyExists):
        finetuner.feedback("another query", ["red"], chosen="red", mark_id=first)
    marks = finetuner.list_feedback(images=True)["marks"]
    assert [mark["id"] for mark in marks] == [first, second]
    assert (marks[0]["text"], marks[0]["shown"], marks[0]["chosen"]) == ("a red square", shown, ["red"])
    assert marks[0]["artifact"] == "clip-mini"
    assert (marks[1]["offset"], marks[1]["text"], len(marks[1]["image"]) > 20) == (20, "", True)
    page = finetuner.list_feedback(limit=1)
    assert [mark["id"] for mark in finetuner.list_feedback(after=page["next"])["marks"]] == [second]
    assert finetuner.list_feedback(since=marks[1]["at"] + 0.001)["marks"] == []
    assert finetuner.export_feedback(tmp_path / "marks.jsonl") == 2
    assert [json.loads(line) for line in (tmp_path / "marks.jsonl").read_text().splitlines()] == marks
    assert finetuner.delete_feedback(document="blue") == 1
    assert [mark["id"] for mark in finetuner.list_feedback()["marks"]] == [second]
    assert finetuner.delete_feedback(ids=second) == 1


def test_what_never_was_shown_or_indexed_is_refused(marked: RunningFlow) -> None:
    for shown, chosen in ((["red"], ["blue"]), (["red", "unknown"], ["red"]), ([], []), (["red"], [])):
        with pytest.raises(InvalidInput):
            finetuner.feedback("red", shown, chosen=chosen)
    for query in (Document(), Document(chunks=[Document(text="a")]), 3):
        with pytest.raises(InvalidInput):
            finetuner.feedback(query, ["red"], chosen="red")
    with pytest.raises(InvalidInput):
        finetuner.delete_feedback()
    assert finetuner.list_feedback()["marks"] == []


def test_marks_become_training_pairs(marked: RunningFlow) -> None:
    shown = ["red", "green", "blue"]
    marks = [finetuner.feedback(f"{name} square", shown, chosen=name, refused="blue") for name in shown[:2]]
    marks.append(finetuner.feedback("blue square", shown, chosen="blue", refused="red"))
    data = finetuner.feedback_data(held_out=0.0)
    pairs = {pair.text: (pair.image, pair.negatives, pair.score) for pair in read_pairs(data.train)}
    assert {text: pair[:2] for text, pair in pairs.items()} == {
        "red square": (image("red"), ("blue square",)),
        "green square": (image("green"), ()),
        "blue square": (image("blue"), ("red square", "green square")),
    }
    assert all(pair[2] == pytest.approx((1 + 2 / 3) / 3) for pair in pairs.values())
    assert data.report["pairs"] == 3
    with pytest.raises(InvalidInput, match="at least one training pair"):
        finetuner.feedback_data(users=["nobody"])
    for wrong in ({"held_out": 1}, {"position_bias": -1}, {"skipped": 1}, {"since": -5}):
        with pytest.raises(InvalidInput):
            finetuner.feedback_data(**wrong)  # type: ignore[arg-type]
    assert finetuner.delete_feedback(ids=marks) == 3


def test_fit_takes_the_marks_and_scores_their_held_out_queries(
    marked: RunningFlow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = ["red", "green", "blue"]

    def mark(query: str) -> str:
        chosen = "green" if "green" in query else "red"
        return finetuner.feedback(f"{query} square", shown, chosen=chosen, refused="blue")

    with pytest.raises(InvalidInput, match="at least one training pair"):
        finetuner.fit("clip-mini", "feedback")
    marks = [mark("red"), mark("leaf green"), mark("dark red")]
    with pytest.raises(InvalidInput, match="held-out queries"):
        finetuner.fit("clip-mini", "feedback", since=0)
    held_out = [word for word in map("red {}".format, range(12)) if is_held_out(f"text {word} square", 0.2)]
    marks += [mark(word) for word in held_out]
    assert held_out
    run = finetuner.fit("clip-mini", "feedback", since=0, epochs=1, device="cpu", wait=True)
    assert {"before", "after"} <= run.metrics().keys()
    trained, scored = (finetuner.pull_data(run.config[name]) for name in ("train_data", "eval_data"))
    assert {pair.text for pair in read_pairs(trained)} == {"red square", "leaf green square", "dark red square"}
    assert {pair.text for pair in read_pairs(scored)} == {f"{word} square" for word in held_out}
    with pytest.raises(InvalidInput, match="at least one training pair"):
        finetuner.fit("clip-mini", "feedback", since=2.0**33)
    for wrong in ({"since": -1}, {"since": "today"}, {"train_data": trained, "since": 0}):
        with pytest.raises(InvalidInput, match="since"):
            finetuner.fit("clip-mini", **{"train_data": "feedback", **wrong})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="must train a CLIP"):
        finetuner.fit("resnet50", "feedback")
    (tmp_path / "feedback").mkdir()
    with pytest.raises(InvalidInput, match="file or folder of that name"):
        finetuner.fit("clip-mini", "feedback")
    (tmp_path / "feedback").rmdir()
    finetuner.push_data("feedback", trained)
    with pytest.raises(InvalidInput, match="dataset of that name"):
        finetuner.fit("clip-mini", "feedback")
    finetuner.delete_data("feedback")
    assert finetuner.delete_feedback(ids=marks) == len(marks)


def test_rest_marks_lists_and_deletes(marked: RunningFlow) -> None:
    one, two = uuid.uuid4().hex, uuid.uuid4().hex
    mark = {"text": "a red square", "shown": ["red", "blue"], "chosen": ["red"]}
    with httpx.Client(base_url=marked.http, timeout=60) as api:
        body = {"marks": [{**mark, "id": one}, {**mark, "id": two, "shown": ["red", "gone"]}]}
        answer = api.post("/v1/feedback", json=body).json()
        assert answer["stored"] == 1
        assert answer["marks"][0] == {"id": one}
        assert "'gone'" in answer["marks"][1]["error"]["message"]
        single = api.post("/v1/feedback", json={"marks": [{**mark, "id": two, "shown": ["red", "gone"]}]})
        assert (single.status_code, "'gone'" in single.json()["detail"]) == (422, True)
        faults: list[dict[str, object]] = [{"chosen": ["red"] * 2}, {"blob": "AAAA"}, {"shown": []}, {"offset": 1.5}]
        for wrong in (*faults, {wire.OWNER: "admin"}):
            assert api.post("/v1/feedback", json={"marks": [mark | wrong]}).status_code == 422, wrong
        listed = api.post("/v1/feedback/list", json={"document": "blue"}).json()
        assert [(each["id"], each["user"], each["image"]) for each in listed["marks"]] == [(one, "", "")]
        assert listed["next"] is None
        assert api.post("/v1/feedback/delete", json={}).status_code == 422
        assert api.post("/v1/feedback/delete", json={"ids": [one]}).json() == {"deleted": 1}


def test_commands_mark_list_and_delete(marked: RunningFlow, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(app, ["feedback", *words, "--host", marked.host], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output.strip()

    made = run("mark", "a red square", "--shown", "red", "--shown", "blue", "--refused", "blue")
    assert [mark["id"] for mark in json.loads(run("list", "--document", "blue"))["marks"]] == [made]
    assert run("export", str(tmp_path / "all.jsonl")).startswith("1 marks")
    assert run("delete", "--id", made) == "1"


def test_a_round_promotes_only_what_is_better_by_the_margin(marked: RunningFlow) -> None:
    images = list(fashion("train", items=12))
    pairs = DocumentArray([make_pair(each.captions["en"], each.jpeg) for each in images])
    data = FeedbackData(pairs, pairs[:10], {})
    with pytest.raises(InvalidInput, match="at least 10 pairs"):
        finetuner.improve(pairs, FeedbackData(pairs, pairs[:9], {}), model="clip-mini")
    with pytest.raises(InvalidInput, match="margin"):
        finetuner.improve(pairs, data, model="clip-mini", margin=-1)
    before = finetuner.index_status()["promoted"]
    done = finetuner.improve(pairs, data, model="clip-mini", margin=1.0, epochs=1, device="cpu")
    assert not done.promoted
    assert "must rise by at least 1" in done.reason
    assert done.run_name.startswith("round-")
    assert 0 <= done.before <= 1
    assert finetuner.index_status()["promoted"] == before
    assert finetuner.get_run(done.run_name, "feedback").artifact_id == done.artifact_id
    listed = httpx.get(f"{marked.http}/v1/experiments/feedback/runs/{done.run_name}").json()
    assert listed["note"] == f"Not promoted. {done.reason}", "the page shows the history of rounds"
