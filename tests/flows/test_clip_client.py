"""CLIP-as-service's own client, as it is published, against our Flow."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray
from jina.excepts import BadServerFlow

from finetuner.catalogue import fashion
from finetuner.contract.wire import ARTIFACT_TAG, error_of
from finetuner.documents.images import decode
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.flow.running_flow import RunningFlow
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip
from finetuner.models.clip_files import load_backbone

from .conftest import empty_index

IMAGES = list(fashion("test", items=3))[:3]
TEXTS = ["a red dress", "ein blaues Hemd mit langen Ärmeln", "shoes"]


@pytest.fixture(scope="module")
def door(flow: RunningFlow) -> RunningFlow:
    """The Flow with an empty index."""
    empty_index(flow)
    return flow


@pytest.fixture(scope="module")
def client(door: RunningFlow) -> Any:
    return connect(door.host)


def connect(server: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_VERSION_CHECK", "1")  # otherwise the import asks PyPI
        from clip_client import Client
    return Client(server)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Paths of image files, as the client loads them."""
    folder = tmp_path_factory.mktemp("images")
    for image in IMAGES:
        (folder / image.name).with_suffix(".jpg").write_bytes(image.jpeg)
    return [str((folder / image.name).with_suffix(".jpg")) for image in IMAGES]


@pytest.fixture(scope="module")
def clip_mini() -> Clip:
    return load_backbone(find_backbone("clip-mini"))


@pytest.fixture(scope="module")
def vectors(clip_mini: Clip) -> np.ndarray:
    """Of `TEXTS` and then of the files."""
    images = clip_mini.encode_images([decode(image.jpeg) for image in IMAGES])
    return np.concatenate([clip_mini.encode_texts(TEXTS), images])


def test_encode_takes_texts_and_files(client: Any, files: list[str], vectors: np.ndarray) -> None:
    found = client.encode([*TEXTS, *files], batch_size=2)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, vectors, atol=1e-5)
    assert client.encode([]) == []


def test_encode_takes_documents_and_keeps_their_content(client: Any, files: list[str], vectors: np.ndarray) -> None:
    documents = DocumentArray([*(Document(text=text) for text in TEXTS), *(Document(uri=path) for path in files)])
    found = client.encode(documents, show_progress=True)
    np.testing.assert_allclose(found.embeddings, vectors, atol=1e-5)
    assert found[0].text == TEXTS[0]
    assert found[3].blob == IMAGES[0].jpeg


def test_encode_takes_a_generator(client: Any, vectors: np.ndarray) -> None:
    with pytest.warns(UserWarning, match="length of the input is unknown"):
        found = client.encode((text for text in TEXTS), batch_size=1)
    np.testing.assert_allclose(found.embeddings, vectors[:3], atol=1e-5)


def test_aencode_takes_the_same(client: Any, files: list[str], vectors: np.ndarray) -> None:
    np.testing.assert_allclose(asyncio.run(client.aencode([*TEXTS, *files])), vectors, atol=1e-5)
    documents = asyncio.run(client.aencode(DocumentArray([Document(uri=path) for path in files]), batch_size=2))
    np.testing.assert_allclose(documents.embeddings, vectors[3:], atol=1e-5)


def answers(client: Any, content: list[Any], **parameters: Any) -> DocumentArray:
    """Return what the Flow answers, of which the client itself keeps no more than the embeddings."""
    found = DocumentArray()
    client.encode(content, on_done=lambda response: found.extend(response.docs), parameters=parameters)
    return found


def refused(client: Any, content: list[Any], message: str, **parameters: Any) -> DocumentArray:
    """Return the answers to a call in which every document fails; the client raises the reason after them."""
    found = DocumentArray()
    with pytest.raises((BadServerFlow, ConnectionError), match=message):
        client.encode(content, on_done=lambda response: found.extend(response.docs), parameters=parameters)
    return found


def test_every_answer_names_its_model_and_leaves_the_images_out_unless_asked(client: Any, files: list[str]) -> None:
    found = answers(client, [TEXTS[0], files[0]])
    assert [document.tags[ARTIFACT_TAG] for document in found] == ["clip-mini", "clip-mini"]
    assert [(document.text, document.blob) for document in found] == [(TEXTS[0], b""), ("", b"")]
    assert answers(client, files[:1], drop_image_content=False)[0].blob == IMAGES[0].jpeg


def test_a_model_name_in_the_path_and_in_the_parameters(client: Any, files: list[str], vectors: np.ndarray) -> None:
    found = client.encode([TEXTS[0], files[0]], parameters={"model_name": "clip-mini"})
    np.testing.assert_allclose(found, vectors[[0, 3]], atol=1e-5)
    found = asyncio.run(client.aencode([TEXTS[0]], parameters={"model_name": "clip-mini"}))
    np.testing.assert_allclose(found, vectors[:1], atol=1e-5)
    wrong = refused(client, [TEXTS[0], files[0]], "None of 2 documents has a vector.*", model_name="ViT-B-99::no/such")
    assert all("'ViT-B-99::no/such'" in str(error_of(document)) for document in wrong)


def test_a_bad_document_has_its_own_error_and_its_neighbours_their_vectors(client: Any, vectors: np.ndarray) -> None:
    broken = Document(blob=IMAGES[0].jpeg[:300])
    found = answers(client, [Document(text=TEXTS[0]), broken, Document(blob=IMAGES[1].jpeg)])
    assert [isinstance(error_of(document), InvalidDocument) for document in found] == [False, True, False]
    np.testing.assert_allclose(found[[0, 2]].embeddings, vectors[[0, 4]], atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_where_every_document_fails_the_user_reads_why(client: Any, size: int) -> None:
    broken = [Document(blob=IMAGES[0].jpeg[:300]) for _ in range(3)]
    with pytest.raises(BadServerFlow, match="None of 3 documents has a vector. The first error: image must be"):
        client.encode(broken, batch_size=size)
    with pytest.raises(BadServerFlow, match="None of 1 documents has a vector"):
        asyncio.run(client.aencode(broken[:1]))
    found = client.encode([*broken, Document(text=TEXTS[0])], batch_size=size)
    assert [document.embedding is None for document in found] == [True, True, True, False]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"access_paths": "@m"}, "Got access_paths. Leave it out."),
        ({"drop_image_content": "yes"}, "parameter 'drop_image_content' must be true or false. Got 'yes'."),
        ({"artifact": "live", "model_name": "clip-mini"}, "must name one model. Got clip-mini and live."),
    ],
)
def test_parameters_that_cannot_be_are_refused(client: Any, parameters: dict[str, Any], message: str) -> None:
    (found,) = refused(client, [TEXTS[0]], re.escape(message), **parameters)
    assert isinstance(error_of(found), InvalidInput)
    assert message in str(error_of(found))


def naive_rank(query: np.ndarray, candidates: np.ndarray) -> list[tuple[int, float, float]]:
    """Return (position, softmax of 100 times the cosine, cosine) of each candidate, best first."""
    cosines = [float(sum(a * b for a, b in zip(query, candidate, strict=True))) for candidate in candidates]
    total = sum(np.exp(100 * cosine) for cosine in cosines)
    return sorted(
        ((row, np.exp(100 * each) / total, each) for row, each in enumerate(cosines)), key=lambda one: -one[2]
    )


def ranked(document: Document) -> list[tuple[str, float, float]]:
    return [(one.id, one.scores["clip_score"].value, one.scores["clip_score_cosine"].value) for one in document.matches]


def to_rank(files: list[str], **stale: Any) -> list[Document]:
    """A text with images, an image with texts, and a text with texts and an image."""
    return [
        Document(
            text=TEXTS[0], matches=[Document(id=f"{3 + row}", uri=path, **stale) for row, path in enumerate(files)]
        ),
        Document(uri=files[1], matches=[Document(id=f"{row}", text=text, **stale) for row, text in enumerate(TEXTS)]),
        Document(text=TEXTS[1], matches=[Document(id="0", text=TEXTS[0]), Document(id="5", uri=files[2], **stale)]),
    ]


@pytest.mark.parametrize("stale", [{}, {"embedding": np.ones(128), "tags": {ARTIFACT_TAG: "old"}}])
def test_rank_sorts_matches_by_the_softmax_of_their_cosines(
    client: Any, files: list[str], vectors: np.ndarray, stale: dict[str, Any]
) -> None:
    found = client.rank(to_rank(files, **stale), batch_size=2)
    expected = [(0, [3, 4, 5]), (4, [0, 1, 2]), (1, [0, 5])]
    for document, (query, rows) in zip(found, expected, strict=True):
        for (given, score, cosine), naive in zip(
            ranked(document), naive_rank(vectors[query], vectors[rows]), strict=True
        ):
            assert given == str(rows[naive[0]])
            assert (score, cosine) == (pytest.approx(naive[1], abs=1e-3), pytest.approx(naive[2], abs=1e-5))
        assert {match.scores["clip_score"].op_name for match in document.matches} == {"softmax"}
        assert {match.tags[ARTIFACT_TAG] for match in document.matches} == {"clip-mini"}
        assert all(not match.blob and match.embedding is None for match in document.matches)
    (again,) = asyncio.run(client.arank(to_rank(files)[:1], parameters={"model_name": "clip-mini"}))
    np.testing.assert_allclose([row[1:] for row in ranked(again)], [row[1:] for row in ranked(found[0])], atol=1e-4)


def test_what_cannot_be_ranked_carries_its_error(client: Any, files: list[str]) -> None:
    broken = Document(id="broken", blob=b"no image")
    found = DocumentArray()
    documents = [
        Document(text=TEXTS[0], matches=[broken, Document(id="good", uri=files[0])]),
        Document(blob=b"no image", matches=[Document(text=TEXTS[0])]),
    ]
    client.rank(documents, on_done=lambda response: found.extend(response.docs))
    good, bad = found[0].matches
    assert (good.id, good.scores["clip_score"].value) == ("good", 1)
    assert isinstance(error_of(bad), InvalidDocument)
    assert (bad.id, dict(bad.scores)) == ("broken", {})
    assert isinstance(error_of(found[1]), InvalidDocument)
    assert "clip_score" not in found[1].matches[0].scores


def test_index_and_search(client: Any, door: RunningFlow, files: list[str], vectors: np.ndarray) -> None:
    client.index(DocumentArray([Document(id=f"{row}", uri=path) for row, path in enumerate(files[:2])]), batch_size=1)
    asyncio.run(client.aindex([Document(id="2", uri=files[2])]))
    expected = [str(row - 3) for row in 3 + np.argsort(-vectors[3:] @ vectors[0])]
    (found,) = client.search([TEXTS[0]])
    assert [match.id for match in found.matches] == expected
    assert all(match.blob == IMAGES[int(match.id)].jpeg for match in found.matches), "the index keeps images"
    (found,) = asyncio.run(client.asearch([Document(uri=files[1])], limit=1, parameters={"model_name": "clip-mini"}))
    assert [match.id for match in found.matches] == ["1"]
    assert found.matches[0].scores["cosine"].value == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("side", ["host", "http"])
def test_profile_says_where_the_time_goes(door: RunningFlow, files: list[str], side: str) -> None:
    client = connect(getattr(door, side))
    for content in ("", TEXTS[0], files[0]):
        report = client.profile(content)
        assert set(report) == {
            "Roundtrip", "Client-server network", "Server", "Gateway-CLIP network", "CLIP model"
        }  # fmt: skip
        assert report["Roundtrip"] >= report["Server"] >= report["CLIP model"] >= 0


def test_over_http_the_answers_come_to_on_done(door: RunningFlow, files: list[str], vectors: np.ndarray) -> None:
    # jina's HTTP client puts documents where clip-client does not look for them, whoever answers
    found = answers(connect(door.http), [TEXTS[0], files[0]], model_name="clip-mini")
    np.testing.assert_allclose(found.embeddings, vectors[[0, 3]], atol=1e-5)
