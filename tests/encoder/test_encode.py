"""/encode of both rooms against the models themselves, and one document's fault on that document alone."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray
from PIL import Image

from executors.encoder.encoder_room import EncoderRoom
from executors.encoder.lane.runner import Runner
from executors.text_encoder.executor import TextEncoder
from executors.vision_encoder.executor import VisionEncoder
from finetuner.contract.wire import ARTIFACT_TAG, ERROR_TAG, error_of
from finetuner.documents.images import decode
from finetuner.exceptions import (
    ArtifactNotFound,
    CorruptedArtifact,
    FinetunerError,
    FinetunerServerError,
    InvalidDocument,
    InvalidInput,
)
from finetuner.inference import encoding
from finetuner.models.clip import Clip
from finetuner.workspace.folder import Workspace

from .conftest import Start

TUNED = "0123456789abcdef01234567"
TEXTS = ["a red dress", "ein blaues Hemd mit langen Ärmeln und Streifen", "?", "shoes " * 60, "鞋", "a red dress"]


def encoded(room: EncoderRoom, documents: list[Document], **parameters: Any) -> DocumentArray:
    docs = DocumentArray(documents)
    assert asyncio.run(room.encode(docs=docs, parameters=parameters)) is None
    return docs


def check_vectors(found: DocumentArray, expected: np.ndarray, model_id: str) -> None:
    assert found.embeddings.dtype == np.float32
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-5)
    assert {document.tags[ARTIFACT_TAG] for document in found} == {model_id}
    assert [error_of(document) for document in found] == [None] * len(found)


def test_texts_get_the_vectors_of_the_text_tower(text_room: TextEncoder, clip_mini: Clip) -> None:
    found = encoded(text_room, [Document(text=text) for text in TEXTS])
    check_vectors(found, clip_mini.encode_texts(TEXTS), "clip-mini")
    assert [document.text for document in found] == TEXTS


def test_images_get_the_vectors_of_the_vision_tower(
    vision_room: VisionEncoder, clip_mini: Clip, images: list[bytes]
) -> None:
    found = encoded(vision_room, [Document(blob=blob) for blob in images])
    check_vectors(found, clip_mini.encode_images([decode(blob) for blob in images]), "clip-mini")


def test_vectors_are_open_clips_own(
    text_room: TextEncoder, vision_room: VisionEncoder, clip_mini: Clip, images: list[bytes]
) -> None:
    import torch

    with torch.inference_mode():
        text = clip_mini.network.encode_text(clip_mini.tokenizer(TEXTS), normalize=True).numpy()
        pixels = torch.stack([clip_mini.preprocess(Image.open(io.BytesIO(blob))) for blob in images])
        vision = clip_mini.network.encode_image(pixels, normalize=True).numpy()
    found = encoded(text_room, [Document(text=value) for value in TEXTS]).embeddings
    np.testing.assert_allclose(found, text, atol=1e-5)
    found = encoded(vision_room, [Document(blob=blob) for blob in images]).embeddings
    np.testing.assert_allclose(found, vision, atol=1e-5)


def test_blob_tensor_and_data_uri_of_one_image_are_equal(vision_room: VisionEncoder, images: list[bytes]) -> None:
    tensor = np.asarray(Image.open(io.BytesIO(images[0])))
    uri = "data:image/jpeg;base64," + base64.b64encode(images[0]).decode()
    found = encoded(vision_room, [Document(blob=images[0]), Document(tensor=tensor), Document(uri=uri)])
    assert np.ptp(found.embeddings, axis=0).max() < 1e-6


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16"])
def test_images_of_every_mode_are_answered(mode: str, vision_room: VisionEncoder) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (1, 1) if mode == "L" else (33, 7)).save(buffer, "TIFF")
    (found,) = encoded(vision_room, [Document(blob=buffer.getvalue())])
    assert error_of(found) is None
    assert found.embedding.shape == (128,)


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
def test_a_bad_image_carries_its_error_and_its_neighbours_are_answered(
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
    """A web server on this machine: /good.jpg, /missing.jpg, and /away, which points to /good.jpg."""

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


def test_private_addresses_are_read_where_the_operator_allows_it(
    start: Start, web: str, workspace: Workspace, vision_room: VisionEncoder, images: list[bytes]
) -> None:
    room = start(VisionEncoder, workspace, private_uris=True)
    documents = [Document(blob=images[0]), *(Document(uri=f"{web}/{name}") for name in ("good.jpg", "away", "gone"))]
    found = encoded(room, documents)
    assert np.ptp(found[:3].embeddings, axis=0).max() < 1e-6
    assert "uri must answer 200. Got 404" in str(error_of(found[3]))
    (refused,) = encoded(vision_room, [Document(uri=f"{web}/good.jpg")])
    assert "must be a public address" in str(error_of(refused))


def test_each_room_leaves_the_others_documents_alone(
    text_room: TextEncoder, vision_room: VisionEncoder, images: list[bytes]
) -> None:
    def mixed() -> list[Document]:
        return [Document(id="t", text="a shirt"), Document(id="p", blob=images[0]), Document(id="n")]

    for room, mine in ((text_room, ["t"]), (vision_room, ["p", "n"])):
        before, found = DocumentArray(mixed()), encoded(room, mixed())
        assert [document.id for document in found if document.tags] == mine
        assert all(found[name] == before[name] for name in {"t", "p", "n"} - set(mine))


@pytest.mark.parametrize("reference", [TUNED, "candidate"])
def test_the_artifact_is_named_by_id_or_alias(
    reference: str,
    text_room: TextEncoder,
    vision_room: VisionEncoder,
    tuned: Clip,
    clip_mini: Clip,
    images: list[bytes],
) -> None:
    found = encoded(text_room, [Document(text=text) for text in TEXTS], artifact=reference)
    check_vectors(found, tuned.encode_texts(TEXTS), TUNED)
    assert np.abs(found.embeddings - clip_mini.encode_texts(TEXTS)).max() > 1e-3
    found = encoded(vision_room, [Document(blob=blob) for blob in images], artifact=reference)
    check_vectors(found, tuned.encode_images([decode(blob) for blob in images]), TUNED)


@pytest.mark.parametrize("reference", ["clip-mini", "live", None])
def test_a_backbone_by_name_or_by_default(reference: str | None, text_room: TextEncoder, clip_mini: Clip) -> None:
    found = encoded(text_room, [Document(text="a shirt")], artifact=reference)
    check_vectors(found, clip_mini.encode_texts(["a shirt"]), "clip-mini")


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"artifact": "f" * 24}, ArtifactNotFound, "artifact must be published. Got ffff"),
        ({"artifact": "nobody"}, ArtifactNotFound, "Got 'nobody'"),
        ({"artifact": f"../artifacts/{TUNED}"}, ArtifactNotFound, "Got '../artifacts"),
        ({"artifact": 5.0}, InvalidInput, "parameter 'artifact' must be a string. Got 5.0"),
        ({"artefact": TUNED}, InvalidInput, "must be of: artifact, model_name, drop_image_content. Got artefact"),
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


def test_a_request_without_documents_is_answered(text_room: TextEncoder) -> None:
    assert len(encoded(text_room, [])) == 0


def test_the_error_of_an_earlier_attempt_is_taken_off(vision_room: VisionEncoder, images: list[bytes]) -> None:
    (found,) = encoded(vision_room, [Document(blob=b"broken")])
    assert error_of(found) is not None
    found.blob = images[0]
    (found,) = encoded(vision_room, [found])
    assert ERROR_TAG not in found.tags
    assert found.embedding is not None


def test_an_error_takes_the_old_embedding_away(vision_room: VisionEncoder) -> None:
    (found,) = encoded(vision_room, [Document(blob=b"broken", embedding=np.ones(128, np.float32))])
    assert found.embedding is None


def test_the_next_request_after_a_promotion_uses_the_new_model(
    start: Start, own_workspace: Workspace, publish_tuned: Callable[[Workspace, str, int], None]
) -> None:
    rooms = [start(room, own_workspace) for room in (TextEncoder, VisionEncoder)]

    def live() -> set[str]:
        found = encoded(rooms[0], [Document(text="a shirt")])
        found += encoded(rooms[1], [Document(tensor=np.zeros((9, 9, 3), np.uint8))])
        return {document.tags[ARTIFACT_TAG] for document in found}

    assert live() == {"clip-mini"}
    for number, artifact_id in enumerate(("1" * 24, "2" * 24)):
        publish_tuned(own_workspace, artifact_id, number)
        own_workspace.aliases.set("live", {"artifact": artifact_id})
        assert live() == {artifact_id}
    own_workspace.aliases.set("live", {"artifact": "clip-mini"})
    assert live() == {"clip-mini"}
    assert rooms[0].registry.get_sample_value("finetuner_models_loaded") == 2


def test_a_corrupted_artifact_is_an_error_and_the_room_goes_on(
    start: Start, own_workspace: Workspace, publish_tuned: Callable[[Workspace, str, int], None]
) -> None:
    publish_tuned(own_workspace, TUNED, 0)
    weights = own_workspace.artifacts / TUNED / "models" / "clip-text" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    room = start(TextEncoder, own_workspace)
    (found,) = encoded(room, [Document(text="a shirt")], artifact=TUNED)
    assert "models/clip-text/weights.safetensors differs from the manifest" in str(error_of(found))
    (found,) = encoded(room, [Document(text="a shirt")])
    assert error_of(found) is None


def test_documents_with_an_embedding_pass_to_the_indexer_as_they_are(text_room: TextEncoder) -> None:
    own = Document(text="brings its own", embedding=np.ones(3), tags={ARTIFACT_TAG: "somebody else's"})
    for endpoint in (text_room.encode_new, text_room.encode_queries):
        docs = DocumentArray([Document(own, copy=True), Document(text="a shirt")])
        asyncio.run(endpoint(docs=docs, parameters={"limit": 5.0, "return_content": True}))
        assert docs[0].embedding.tolist() == [1, 1, 1]
        assert docs[0].tags[ARTIFACT_TAG] == "somebody else's"
        assert docs[1].tags[ARTIFACT_TAG] == "clip-mini"
    encoded(text_room, [own])
    assert own.tags[ARTIFACT_TAG] == "clip-mini", "/encode encodes again"


def test_requests_and_documents_are_counted_by_endpoint(
    start: Start, workspace: Workspace, images: list[bytes]
) -> None:
    room = start(VisionEncoder, workspace)

    def value(name: str, **labels: str) -> float:
        return room.registry.get_sample_value(name, labels) or 0.0

    encoded(room, [Document(blob=images[0]), Document(blob=b"broken"), Document(text="not mine")])
    encoded(room, [Document(blob=images[0])], artifact="nobody")
    asyncio.run(room.encode_queries(docs=DocumentArray([Document(blob=images[0])]), parameters={}))
    assert value("finetuner_requests_total", endpoint="/encode", outcome="ok") == 1
    assert value("finetuner_requests_total", endpoint="/encode", outcome="error") == 1
    assert value("finetuner_documents_total", endpoint="/encode", outcome="ok") == 1
    assert value("finetuner_documents_total", endpoint="/encode", outcome="error") == 2
    assert value("finetuner_documents_total", endpoint="/search", outcome="ok") == 1
    assert value("finetuner_documents_total", endpoint="/index", outcome="ok") == 0
    assert value("finetuner_request_seconds_count", endpoint="/encode") == 2


def test_an_unexpected_error_is_the_servers_and_the_room_goes_on(
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


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 0},
        {"models": 0},
        {"backbone": "clip-mimi"},
        {"queue_size": 0},
        {"max_wait_ms": -1},
        {"deadline": 0},
        {"workers": 65},
        {"fetchers": 0},
        {"threads": -1},
        {"private_uris": "no"},
        {"precision": "fp16"},
        {"engine": "tensorrt"},
        {"engine": "onnx", "precision": "bf16"},
        {"engine": "onnx", "compile": True},
        {"compile": "yes"},
        {"draft": 1},
        {"draft": 65},
        {"precision": "int8"},
        {"session_options": {"allow_spinning": False}},
        {"session_options": 0},
        {"engine": "onnx", "session_options": {"spin": False}},
        {"engine": "onnx", "device": "cuda"},
        {"models_mb": -1},
        {"switch_wait": 61},
        {"switch_limit": -1},
    ],
    ids=str,
)
def test_a_wrong_setting_stops_the_room_at_its_start(start: Start, settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FinetunerError, match="Got "):
        TextEncoder(workspace_url=str(tmp_path), **settings)


def test_a_damaged_live_artifact_does_not_keep_the_room_from_starting(
    start: Start, own_workspace: Workspace, publish_tuned: Callable[[Workspace, str, int], None]
) -> None:
    publish_tuned(own_workspace, TUNED, 1)
    own_workspace.aliases.set("live", {"artifact": TUNED})
    weights = own_workspace.artifacts / TUNED / "models" / "clip-text" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    room = start(TextEncoder, own_workspace)
    documents = DocumentArray([Document(text="a red dress")])
    asyncio.run(room.encode(documents, {}))
    assert isinstance(error_of(documents[0]), CorruptedArtifact)
    own_workspace.aliases.set("live", {"artifact": "clip-mini"})
    asyncio.run(room.encode(documents, {}))
    assert documents[0].tags[ARTIFACT_TAG] == "clip-mini"
