"""DocumentArray.push and pull, as the tutorials write them, against the real Flow."""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import docarray.array.mixins.io.pushpull as docarray_hub
import httpx
import numpy as np
import pytest
import requests
from docarray import Document, DocumentArray
from hubble import Client as HubbleClient
from PIL import Image

import finetuner
from finetuner.api import hub, session
from finetuner.contract import wire
from finetuner.contract.environment import HTTP
from finetuner.documents import stream
from finetuner.documents.pairs import make_pair, read_pairs
from finetuner.exceptions import DatasetNotFound, InvalidDocument
from finetuner.flow.running_flow import RunningFlow

from .peaks import Peaks


def image(number: int, side: int = 24) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pairs(count: int = 6) -> DocumentArray:
    return DocumentArray(
        make_pair(f"a dress {number}", image(number), {"finetuner_label": number, "language": "en"})
        for number in range(count)
    )


def labelled() -> DocumentArray:
    return DocumentArray(
        Document(blob=image(number), mime_type="image/png", tags={"finetuner_label": f"item {number % 2}"})
        for number in range(4)
    )


def tensors() -> DocumentArray:
    generator = np.random.default_rng(0)
    documents = DocumentArray()
    for number in range(5):
        pixels = generator.integers(0, 256, (8, 9, 3), dtype=np.uint8)
        vector = generator.normal(size=7).astype(np.float32)
        documents.append(Document(tensor=pixels, embedding=vector, tags={"deep": {"a": [1, {"b": number}]}}))
    return documents


def texts() -> DocumentArray:
    return DocumentArray(
        Document(text=f"ein Kleid Nr. {number}", uri=f"http://shop/{number}.jpg") for number in range(5)
    )


def tensor_pairs() -> DocumentArray:
    chunks = [Document(text="a", modality="text"), Document(tensor=np.zeros((9, 9, 3), np.uint8), modality="image")]
    return DocumentArray([Document(chunks=chunks), *pairs(1)])


def scored() -> DocumentArray:
    sides = [Document(text="one"), Document(text="two")]
    return DocumentArray([Document(chunks=sides, tags={"finetuner_score": 0.5})])


@pytest.fixture(autouse=True)
def logged_in(flow: RunningFlow, monkeypatch: pytest.MonkeyPatch, own_session: None, tmp_path: Path) -> Iterator[None]:
    """`finetuner.login` to the Flow; afterwards the environment is as it was."""
    for name in (hub.ADDRESS, hub.TOKEN, hub.HINT, HTTP, "FINETUNER_TOKEN"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(docarray_hub, "__cache_path__", str(tmp_path / "cache"))  # else in the home directory
    finetuner.login(host=flow.host)
    yield
    for name in (hub.ADDRESS, hub.TOKEN, hub.HINT):
        os.environ.pop(name, None)


@pytest.fixture
def name() -> str:
    return f"data-{secrets.token_hex(4)}"


def test_login_points_docarray_at_the_flow(flow: RunningFlow) -> None:
    assert os.environ[hub.ADDRESS] == flow.http
    assert os.environ[hub.TOKEN] == hub.NO_TOKEN
    assert finetuner.get_token() == ""
    assert HubbleClient(jsonify=True).get_user_info()["data"]["name"] == "finetuner"
    finetuner.login(force=True, host=flow.host)  # the placeholder is not taken for a token
    assert finetuner.get_token() == ""


@pytest.mark.parametrize("make", [pairs, labelled, tensors, texts, tensor_pairs, scored])
def test_what_docarray_pushes_it_pulls(make: Callable[[], DocumentArray], name: str) -> None:
    documents = make()
    answer = documents.push(name, show_progress=True)
    assert answer["name"] == name
    assert DocumentArray.pull(name, show_progress=True) == documents
    assert DocumentArray.pull(name, show_progress=True) == documents  # from DocArray's cache
    assert finetuner.pull_data(name) == documents
    (entry,) = (entry for entry in finetuner.list_data() if entry["name"] == name)
    assert entry["documents"] == len(documents)
    again = finetuner.push_data(f"{name}-again", documents)
    if make in (labelled, tensors, scored):  # of pairs, push_data makes its own; texts are left alone
        assert again["version"] == entry["version"]


def test_pairs_with_tensors_can_be_trained_on(name: str) -> None:
    tensor_pairs().push(name)
    assert [pair.text for pair in read_pairs(finetuner.pull_data(name))] == ["a", "a dress 0"]


def test_several_parts_come_back_in_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = DocumentArray(Document(id=str(number), blob=os.urandom(3 * 2**20)) for number in range(9))
    documents.push(name)
    pulled = DocumentArray.pull(name, local_cache=False)
    assert pulled[:, "id"] == documents[:, "id"]
    assert pulled == documents


def test_another_content_of_the_same_size_is_not_taken_from_the_cache(name: str) -> None:
    for label in ("a", "b", "c"):
        DocumentArray([Document(id="0", text=label)]).push(name)
        assert DocumentArray.pull(name)[0].text == label


def test_no_documents_are_no_dataset(name: str) -> None:
    with pytest.raises(requests.HTTPError, match="must hold at least one document. Got none"):
        DocumentArray().push(name)
    with pytest.raises(requests.HTTPError, match="404"):
        DocumentArray.pull(name)


def test_a_broken_pair_names_its_position_also_in_a_later_part(name: str) -> None:
    documents = DocumentArray(Document(blob=os.urandom(3 * 2**20)) for _ in range(5))
    documents.append(Document(id="half", chunks=[Document(text="a", modality="text")]))
    for push in (lambda: documents.push(name), lambda: finetuner.push_data(name, documents)):
        with pytest.raises(Exception, match=r"document 5 \(half\): pair must have two chunks"):
            push()
    with pytest.raises(InvalidDocument, match=r"document 0 \(.*\): document must have text, blob"):
        finetuner.push_data(name, DocumentArray([Document(tags={"a": 1})]))
    assert name not in {entry["name"] for entry in finetuner.list_data()}


def test_a_push_leaves_nothing_behind(flow: RunningFlow, name: str) -> None:
    uploads = flow.workspace / "datasets" / "uploads"
    pairs().push(name)
    with pytest.raises(requests.HTTPError, match="dataset name must be"):
        pairs().push("a b/c")
    assert list(uploads.iterdir()) == []


def test_cloud_list_and_delete(name: str) -> None:
    pairs().push(name)
    assert name in DocumentArray.cloud_list(show_table=True)
    client = HubbleClient(jsonify=True)
    detail = client.get_artifact_info(name=name)["data"]
    renamed = client.update_artifact(detail["_id"], name=f"{name}-new")["data"]
    assert finetuner.pull_data(f"{name}-new") == finetuner.pull_data(renamed["name"])
    listed = client.list_artifacts(filter={"type": "documentArray"}, sort={"name": -1}, pageSize=1)
    assert len(listed["data"]) == 1
    assert listed["meta"]["total"] >= 1
    file = BytesIO()
    client.download_artifact(renamed["_id"], file)
    assert len(DocumentArray.load_binary(file.getvalue(), protocol="protobuf", compress="gzip")) == 6
    DocumentArray.cloud_delete(f"{name}-new")
    with pytest.raises(DatasetNotFound):
        finetuner.pull_data(f"{name}-new")
    with pytest.raises(Exception, match="40403"):
        client.delete_artifact(name=name)


def test_a_second_push_transfers_nothing(flow: RunningFlow, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    send = session.Connection.send

    def counted(self, endpoint, documents, **parameters):  # type: ignore[no-untyped-def]
        sent.append(0 if documents is None else len(documents))
        return send(self, endpoint, documents, **parameters)

    monkeypatch.setattr(session.Connection, "send", counted)
    documents = pairs(7)
    first = finetuner.push_data(name, documents)
    assert sum(sent) == 7
    assert first["kind"] == "pairs"
    for document in documents:
        document.id = uuid.uuid4().hex  # ids are no content
    second = finetuner.push_data(f"{name}-2", documents)
    assert sum(sent) == 7
    assert second["version"] == first["version"]


def test_an_interrupted_push_goes_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = DocumentArray(Document(blob=os.urandom(1000)) for _ in range(10))
    monkeypatch.setattr(wire, "MAX_REQUEST_BYTES", 2500)
    sent: list[int] = []
    send = session.Connection.send

    def breaks(self, endpoint, documents, **parameters):  # type: ignore[no-untyped-def]
        if documents is not None:
            if len(sent) == 2:
                raise ConnectionError("the cable")
            sent.append(parameters["part"])
        return send(self, endpoint, documents, **parameters)

    monkeypatch.setattr(session.Connection, "send", breaks)
    with pytest.raises(ConnectionError):
        finetuner.push_data(name, documents)
    assert name not in {entry["name"] for entry in finetuner.list_data()}
    sent[:] = [-1] * 10
    made = finetuner.push_data(name, documents)
    assert sent[10:] == [2, 3, 4]
    assert made["documents"] == 10
    assert finetuner.pull_data(name) == documents


def test_a_download_is_as_long_as_it_says_and_signed(flow: RunningFlow, name: str) -> None:
    tensors().push(name)
    url = httpx.get(f"{flow.http}/v2/rpc/artifact.getDownloadUrl", params={"name": name}).json()["data"]["download"]
    answer = httpx.get(url)
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert httpx.head(url).headers["content-length"] == answer.headers["content-length"]
    reader = stream.StreamReader()
    assert len(list(reader.feed(answer.content))) == reader.finish() == 5
    assert httpx.get(url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 403
    assert httpx.get(url.replace("documents=5", "documents=4")).status_code == 403


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_documents_are_never_held_at_once(flow: RunningFlow) -> None:
    sent = DocumentArray(Document(id=f"d{number}", blob=image(number, 128)) for number in range(10_000))
    size = sum(len(document.blob) for document in sent)
    peaks = Peaks(flow)
    sent.push("ten-thousand", show_progress=False)
    pulled = DocumentArray.pull("ten-thousand", show_progress=False)
    growth = peaks.growth()
    print(f"{size / 1e6:.0f} MB there and back, {growth / 1e6:.0f} MB more at the peak of the process that grew most")
    assert [document.id for document in pulled] == [document.id for document in sent]
    assert all(document.blob == other.blob for document, other in zip(pulled, sent, strict=True))
    assert growth < 400e6 < size
