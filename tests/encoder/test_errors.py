"""Errors of `/encode`: the bad document carries its error, and its neighbours get their embeddings."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from docarray import Document

from finetuner.contract.wire import ERROR_TAG, error_of
from finetuner.documents.images import decode
from finetuner.exceptions import (
    ArtifactNotFound,
    FinetunerError,
    FinetunerServerError,
    InvalidDocument,
    InvalidInput,
)
from finetuner.executors.encoder.lane.runner import Runner
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.executors.vision_encoder.executor import VisionEncoder
from finetuner.inference import encoding
from finetuner.models.clip import Clip
from finetuner.workspace.folder import Workspace

from .calls import check_vectors, encoded
from .conftest import TUNED, Start


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"blob": b"\xff\xd8\xff\xe0 cut"}, "image file such as JPEG or PNG. Got 8 bytes"),
        ({"blob": b"<svg/>"}, "image file such as JPEG or PNG"),
        ({}, "must have text, blob, tensor or uri. Got none of them"),
        ({"tensor": np.zeros((4, 4, 3), np.float32)}, r"uint8. Got \(4, 4, 3\) float32"),
        ({"tensor": np.zeros((3, 4, 4), np.uint8)}, r"Got \(3, 4, 4\) uint8"),
        ({"tensor": np.zeros((0, 4, 3), np.uint8)}, r"Got \(0, 4, 3\) uint8"),
        ({"uri": "data:image/png;base64,picture"}, "valid base64"),
        ({"uri": "data:,"}, "Got 0 bytes"),
        ({"uri": "/etc/passwd"}, "http://, https:// or data: here. Got '/etc/passwd'"),
        ({"uri": "file:///etc/passwd"}, "Got 'file:///etc/passwd'"),
        ({"uri": "http://127.0.0.1:9/a.jpg"}, "public address. Got '127.0.0.1', which is 127.0.0.1"),
        ({"uri": "http://localhost:9/a.jpg"}, "public address. Got 'localhost'"),
        ({"uri": "http://[::1]/a.jpg"}, "public address. Got '::1'"),
        ({"uri": "http://169.254.169.254/latest/meta-data"}, "which is 169.254.169.254"),
        ({"uri": "http://10.0.0.1/a.jpg"}, "which is 10.0.0.1"),
        ({"uri": "http://[::ffff:127.0.0.1]/a.jpg"}, "uri must be"),
    ],
    ids=lambda value: str(sorted(value.items()))[:50] if isinstance(value, dict) else "",
)
def test_a_bad_image_carries_its_error_and_its_neighbours_are_encoded(
    bad: dict[str, Any], message: str, vision_room: VisionEncoder, clip_mini: Clip, images: list[bytes]
) -> None:
    found = encoded(vision_room, [Document(blob=images[0]), Document(**bad), Document(blob=images[1])])
    error = error_of(found[1])
    assert isinstance(error, InvalidDocument)
    with pytest.raises(InvalidDocument, match=message):
        raise error
    assert found[1].embedding is None
    check_vectors(found[::2], clip_mini.encode_images([decode(blob) for blob in images[:2]]), "clip-mini")


def test_a_truncated_image_carries_its_error(vision_room: VisionEncoder, images: list[bytes]) -> None:
    found = encoded(vision_room, [Document(blob=images[0][:-200]), *(Document(blob=blob) for blob in images)])
    assert "truncated" in str(error_of(found[0]))
    assert [error_of(document) for document in found[1:]] == [None] * 6


def test_a_text_that_is_too_long_carries_its_error(text_room: TextEncoder) -> None:
    found = encoded(text_room, [Document(text="x" * (encoding.MAX_TEXT + 1)), Document(text="a shirt")])
    assert "at most 100000 characters. Got 100001" in str(error_of(found[0]))
    assert error_of(found[1]) is None


@pytest.fixture
def web(images: list[bytes]) -> Iterator[str]:
    """A web server on this machine with /good.jpg and /away, which redirects to /good.jpg."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = {"/good.jpg": 200, "/away": 302}.get(self.path, 404)
            body = images[0] if status == 200 else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 302:
                self.send_header("Location", "/good.jpg")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_private_addresses_are_read_if_the_operator_allows_it(
    start: Start, web: str, workspace: Workspace, vision_room: VisionEncoder, images: list[bytes]
) -> None:
    room = start(VisionEncoder, workspace, private_uris=True)
    documents = [Document(blob=images[0]), *(Document(uri=f"{web}/{name}") for name in ("good.jpg", "away", "gone"))]
    found = encoded(room, documents)
    assert np.ptp(found[:3].embeddings, axis=0).max() < 1e-6
    assert "uri must answer 200. Got 404" in str(error_of(found[3]))
    (refused,) = encoded(vision_room, [Document(uri=f"{web}/good.jpg")])
    assert "must be a public address" in str(error_of(refused))


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"artifact": "f" * 24}, ArtifactNotFound, "artifact must be published. Got ffff"),
        ({"artifact": "nobody"}, ArtifactNotFound, "Got 'nobody'"),
        ({"artifact": f"../artifacts/{TUNED}"}, ArtifactNotFound, "Got '../artifacts"),
        ({"artifact": 5.0}, InvalidInput, "parameter 'artifact' must be a string. Got 5.0"),
        ({"artefact": TUNED}, InvalidInput, "drop_image_content, count_tokens, dimensions. Got artefact"),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_an_error_on_each_document_of_this_room(
    parameters: dict[str, Any], error: type[FinetunerError], message: str,
    text_room: TextEncoder, vision_room: VisionEncoder, images: list[bytes],
) -> None:  # fmt: skip
    documents = [Document(id="a", text="a"), Document(id="b", text="b"), Document(id="p", blob=images[0])]
    for room, mine in ((text_room, ("a", "b")), (vision_room, ("p",))):
        found = encoded(room, [Document(document, copy=True) for document in documents], **parameters)
        for document in found:
            reason = error_of(document)
            assert (type(reason) is error and message in str(reason)) if document.id in mine else reason is None
            assert document.embedding is None


def test_the_error_of_an_earlier_attempt_is_removed(vision_room: VisionEncoder, images: list[bytes]) -> None:
    (found,) = encoded(vision_room, [Document(blob=b"broken")])
    assert error_of(found) is not None
    found.blob = images[0]
    (found,) = encoded(vision_room, [found])
    assert ERROR_TAG not in found.tags
    assert found.embedding is not None


def test_an_error_removes_the_old_embedding(vision_room: VisionEncoder) -> None:
    (found,) = encoded(vision_room, [Document(blob=b"broken", embedding=np.ones(128, np.float32))])
    assert found.embedding is None


def test_after_an_unexpected_error_the_room_still_answers(
    start: Start, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = start(TextEncoder, workspace)
    logged: list[str] = []
    monkeypatch.setattr(room.logger, "error", lambda message, **_: logged.append(message))
    with monkeypatch.context() as patch:
        patch.setattr(Runner, "run", lambda *_, **__: 1 / 0)
        found = encoded(room, [Document(text="a"), Document(text="b")])
    assert {type(error_of(document)) for document in found} == {FinetunerServerError}
    assert "/encode failed in TextEncoder: ZeroDivisionError" in str(error_of(found[0]))
    assert logged == ["/encode failed"]
    assert error_of(encoded(room, [Document(text="a")])[0]) is None
