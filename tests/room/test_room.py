"""Base of every room: answers, checked parameters, errors, metrics and the workspace."""

from __future__ import annotations

import gc
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from docarray import Document, DocumentArray
from prometheus_client import CollectorRegistry, generate_latest

from finetuner.contract.parameters import Parameters
from finetuner.contract.wire import error_of, read_reply
from finetuner.exceptions import FinetunerServerError, InvalidInput, RunNotFound
from finetuner.executors.room.collector import freeze_modules
from finetuner.executors.room.room import Room, control


class Desk(Room):
    @control("/answer", "question", "times")
    def answer(self, parameters: Parameters, docs: DocumentArray) -> Any:
        """Answer a question."""
        question = parameters.text("question", "")
        if question == "ours":
            raise RunNotFound("no such run")
        if question == "unexpected":
            raise ZeroDivisionError("a slip")
        if question == "documents":
            return docs
        if question == "unsendable":
            return {1, 2}
        return {"question": question, "times": parameters.whole("times", 1, 1, 9), "documents": len(docs)}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(workspace_url=str(tmp_path / "workspace"))


def requests_of(desk: Desk, outcome: str) -> float | None:
    return desk.registry.get_sample_value("finetuner_requests_total", {"endpoint": "/answer", "outcome": outcome})


def test_an_answer_is_one_json_document(desk: Desk) -> None:
    answer = desk.answer(docs=None, parameters={"question": "why", "times": 2.0, "__results__": {}})
    assert len(answer) == 1
    assert answer[0].mime_type == "application/json"
    assert read_reply(answer[0]) == {"question": "why", "times": 2, "documents": 0}
    assert read_reply(desk.answer()[0]) == {"question": "", "times": 1, "documents": 0}
    assert desk.answer.__doc__ == "Answer a question."


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"uses_with of Desk must be of workspace_url\. Got workspaces\."):
        Desk(workspace_url=str(tmp_path), workspaces="elsewhere")


def test_documents_are_sent_unchanged(desk: Desk) -> None:
    docs = DocumentArray([Document(text="a"), Document(text="b")])
    assert desk.answer(docs=docs, parameters={"question": "documents"}) == docs
    assert len(desk.answer(docs=DocumentArray(), parameters={"question": "documents"})) == 0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"questoin": "why"}, "parameters must be of: question, times. Got questoin. Leave it out"),
        ({"question": 5.0}, "parameter 'question' must be a string. Got 5.0"),
        ({"times": 10.0}, r"parameter 'times' must be in \[1, 9\]. Got 10"),
        ({"times": True}, "parameter 'times' must be a whole number. Got True"),
    ],
)
def test_a_wrong_parameter_is_refused(parameters: dict[str, Any], message: str, desk: Desk) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_reply(desk.answer(parameters=parameters)[0])
    assert requests_of(desk, "error") == 1


def test_an_expected_error_is_answered_and_not_logged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RunNotFound, match="^no such run$"):
        read_reply(desk.answer(parameters={"question": "ours"})[0])
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("unexpected", r"/answer failed in Desk: ZeroDivisionError\('a slip'\). See its log."),
        ("unsendable", r"/answer failed in Desk: TypeError\(.*set is not JSON serializable"),
    ],
)
def test_an_unexpected_error_becomes_the_servers_with_a_traceback_in_the_log(
    question: str, message: str, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    logger = desk.logger.logger  # Jina's logger does not propagate
    logger.addHandler(caplog.handler)
    try:
        (answer,) = desk.answer(parameters={"question": question})
    finally:
        logger.removeHandler(caplog.handler)
    with pytest.raises(FinetunerServerError, match=message):
        read_reply(answer)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert "Traceback" in caplog.text
    assert "/answer failed" in caplog.text
    assert read_reply(desk.answer()[0])["times"] == 1, "the room still answers"


def test_the_metrics_move_with_each_request(desk: Desk) -> None:
    assert requests_of(desk, "ok") is None
    for _ in range(3):
        desk.answer()
    desk.answer(parameters={"question": "ours"})
    desk.count_documents("/answer", 5, 2)
    assert (requests_of(desk, "ok"), requests_of(desk, "error")) == (3, 1)
    text = generate_latest(desk.registry).decode()
    assert 'finetuner_documents_total{endpoint="/answer",outcome="ok"} 5.0' in text
    assert 'finetuner_documents_total{endpoint="/answer",outcome="error"} 2.0' in text
    assert 'finetuner_request_seconds_count{endpoint="/answer"} 4.0' in text


def test_metrics_go_to_jinas_registry_if_there_is_one(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    desk = Desk(workspace_url=str(tmp_path), runtime_args={"metrics_registry": registry, "name": "desk"})
    desk.answer()
    assert registry.get_sample_value("finetuner_requests_total", {"endpoint": "/answer", "outcome": "ok"}) == 1


def test_rooms_share_a_workspace_given_as_folder_or_url(tmp_path: Path) -> None:
    rooms = [Desk(workspace_url=url) for url in (str(tmp_path / "w"), f"file://{tmp_path}/w")]
    assert rooms[0].shared_workspace.root == rooms[1].shared_workspace.root == tmp_path / "w"
    with pytest.raises(InvalidInput, match="workspace must be a folder or a file:// URL. Got 's3://bucket'"):
        Desk(workspace_url="s3://bucket")


def test_an_error_leaves_no_embedding(desk: Desk) -> None:
    (answer,) = desk.answer(parameters={"question": "ours"})
    assert error_of(answer) is not None
    assert answer.embedding is None


def test_only_a_served_room_excludes_loaded_objects_from_collection(tmp_path: Path) -> None:
    gc.unfreeze()  # what tests/conftest.py has excluded
    Room(workspace_url=str(tmp_path))
    assert gc.get_freeze_count() == 0
    Room(workspace_url=str(tmp_path), runtime_args={"shard_id": 0})
    assert gc.get_freeze_count() > 10_000


@pytest.mark.process
def test_a_room_never_frees_garbage_of_the_process_that_forked_it() -> None:
    parent = os.getpid()

    class Left:
        def __del__(self) -> None:
            if os.getpid() != parent:
                os._exit(1)

    gc.disable()
    try:
        left = Left()
        left.itself = left  # type: ignore[attr-defined]
        del left
        child = os.fork()
        if not child:
            freeze_modules()
            gc.collect()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        gc.enable()
