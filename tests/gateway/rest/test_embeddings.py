"""OpenAI's form: token ids, sizes, models, and errors as its clients read them."""

from __future__ import annotations

import gzip
import hashlib
import io
from typing import Any

import numpy as np
import pytest

from finetuner.executors.gateway.rest.token_ids import TABLE, text_of
from tests import plain_http
from tests.gateway.conftest import ToyFlow


def test_the_table_is_tiktokens() -> None:
    digest = hashlib.sha256(gzip.decompress(TABLE.read_bytes())).hexdigest()
    assert digest == "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"


@pytest.mark.parametrize(
    ("ids", "text"),  # as tiktoken 0.14 encodes
    [
        ([64, 2579, 8679], "a red dress"),
        ([72720, 85641, 1157, 27446, 307, 62904, 245, 7328, 76502, 22656], "ein blaues Kleid 👗 für 日本"),
        ([62904], " \N{REPLACEMENT CHARACTER}"),
        ([], ""),
    ],
)
def test_token_ids_become_text(ids: list[int], text: str) -> None:
    assert text_of(ids) == text


@pytest.mark.parametrize("unknown", [-1, 100256, 10**30])
def test_an_id_outside_the_table_is_refused(unknown: int) -> None:
    with pytest.raises(ValueError, match=f"0 to 100255, and holds {unknown}. LangChain"):
        text_of([64, unknown])


@pytest.mark.parametrize(
    ("content", "count"),
    [("a", 1), (["a", "b"], 2), ([64], 1), ([[64], [64, 2579]], 2), (["a", [64]], 2)],
)
def test_each_form_of_input_is_taken(open_flow: ToyFlow, content: Any, count: int) -> None:
    asked = {"input": content, "dimensions": 4, "user": "someone"}
    found = plain_http.post(f"{open_flow.http}/v1/embeddings", json=asked).json()
    assert [each["embedding"] for each in found["data"]] == [[0.5] * 4] * count


def test_dimensions_reach_the_rooms(open_flow: ToyFlow) -> None:
    asked = {"input": ["a", "b"], "dimensions": 3}
    found = plain_http.post(f"{open_flow.http}/v1/embeddings", json=asked).json()
    assert [each["embedding"] for each in found["data"]] == [[0.5] * 3] * 2
    asked = {"documents": [{"text": "a"}, {"blob": "AAAA"}], "dimensions": 2}
    found = plain_http.post(f"{open_flow.http}/v1/encode", json=asked).json()
    assert [each["embedding"] for each in found["documents"]] == [[0.5] * 2] * 2
    asked = {"data": [{"text": "a"}], "execEndpoint": "/encode", "parameters": {"dimensions": 2}}
    found = plain_http.post(f"{open_flow.http}/encode", json=asked).json()
    assert found["data"][0]["embedding"] == [0.5] * 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": ["a", "b"], "dimensions": 3}),
        ("/v1/encode", {"documents": [{"text": "a"}, {"text": "b"}], "dimensions": 3}),
    ],
)
def test_vectors_as_one_array(open_flow: ToyFlow, path: str, body: dict[str, Any]) -> None:
    accept = {"Accept": "text/html, application/x-npy;q=0.9"}
    answer = plain_http.post(open_flow.http + path, json=body, headers=accept)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-npy")
    vectors = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert (vectors.dtype, vectors.tolist()) == (np.dtype("<f4"), [[0.5] * 3] * 2)
    assert answer.headers["finetuner-artifact"] == "toy"


def test_an_array_has_no_other_encoding(open_flow: ToyFlow) -> None:
    body = {"input": "a", "encoding_format": "base64"}
    answer = plain_http.post(f"{open_flow.http}/v1/embeddings", json=body, headers={"Accept": "application/x-npy"})
    assert (answer.status_code, answer.json()["type"]) == (422, "InvalidInput")


def test_models_without_artifacts(open_flow: ToyFlow) -> None:
    """The toy trainer lists none."""
    models = plain_http.get(f"{open_flow.http}/v1/models").json()["data"]
    assert [model["id"] for model in models] == ["live", "clip-mini"]
    assert plain_http.get(f"{open_flow.http}/v1/models/clip-base-en").json()["owned_by"] == "finetuner"
    missing = plain_http.get(f"{open_flow.http}/v1/models/no/body")
    assert (missing.status_code, missing.json()["type"]) == (404, "NoSuchModel")


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/embeddings", 422), ("/v1/chat/completions", 404), ("/encode", 404), ("/v1/search", 422)]
)
def test_every_error_has_openais_form_too(open_flow: ToyFlow, path: str, status: int) -> None:
    answer = plain_http.post(open_flow.http + path.replace("encode", "nothing"), json={"inputs": "a"})
    body = answer.json()
    assert answer.status_code == status
    assert body["error"] == {"message": body["detail"], "type": body["type"], "param": None, "code": None}


def test_a_refused_token_has_openais_form_too(locked_flow: ToyFlow) -> None:
    body = plain_http.post(f"{locked_flow.http}/v1/embeddings", json={}).json()
    assert body["error"]["message"] == body["detail"]
    assert "needs a token" in body["detail"]
