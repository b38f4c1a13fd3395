"""Clients of other projects, as they are published today, against the real Flow."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from finetuner.catalogue import fashion
from finetuner.executors.gateway.rest.token_ids import TABLE
from finetuner.flow.running_flow import RunningFlow

from .conftest import Use

pytestmark = pytest.mark.slow

IMAGE = base64.b64encode(next(iter(fashion("test", items=1))).jpeg).decode()


@pytest.fixture(scope="module")
def vectors(flow: RunningFlow) -> list[Any]:
    """Of two texts and an image."""
    asked = {"input": ["a red dress", "shoes", {"image": IMAGE}], "model": "clip-mini"}
    return [each["embedding"] for each in httpx.post(f"{flow.http}/v1/embeddings", json=asked).json()["data"]]


def close(found: Any, expected: Any) -> bool:
    return np.shape(found) == np.shape(expected) and np.allclose(found, expected, atol=1e-4)


def test_openai(flow: RunningFlow, vectors: list[Any], use: Use) -> None:
    found = use("use_openai", ["openai"], flow.http, IMAGE)
    assert close(found["vectors"], vectors[:2])
    assert close(found["of_token_ids"], vectors[0])
    assert close(found["of_image"], vectors[2])
    assert found["usage"]["prompt_tokens"] == found["usage"]["total_tokens"] > 4
    assert found["image_usage"]["prompt_tokens"] == 0
    assert found["models"][:2] == ["live", "clip-mini"]
    assert (found["model"]["id"], found["model"]["object"], found["backbone"]) == ("live", "model", "clip-base-en")
    assert "model must be one of live, clip-mini, " in found["missing"]
    size, model, ids, none = found["errors"]
    assert "dimensions must be 128, the size of the embeddings of clip-mini. Got 64. Leave it out." in size
    assert "model must be an artifact id" in model
    assert "token ids of OpenAI's cl100k_base, 0 to 100255, and holds 100300" in ids
    assert "must be 1 to 2048 texts and images. Got 0" in none


def test_langchain(flow: RunningFlow, vectors: list[Any], use: Use, tmp_path: Path) -> None:
    # tiktoken's name for the table, which it would download
    (tmp_path / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4").write_bytes(gzip.decompress(TABLE.read_bytes()))
    found = use("use_langchain", ["langchain-openai"], flow.http, TIKTOKEN_CACHE_DIR=str(tmp_path))
    assert close(found["by_default"], found["as_texts"])
    assert close(found["by_default"][0], vectors[0])


def test_llama_index(flow: RunningFlow, vectors: list[Any], use: Use) -> None:
    packages = ["llama-index-embeddings-openai", "llama-index-embeddings-openai-like"]
    found = use("use_llama_index", packages, flow.http)
    assert close(found["like"], vectors[:2])
    assert close(found["own"], vectors[0])


def test_litellm(flow: RunningFlow, vectors: list[Any], use: Use) -> None:
    found = use("use_litellm", ["litellm"], flow.http, LITELLM_LOCAL_MODEL_COST_MAP="True")
    assert close(found["vectors"], vectors[:2])
    assert found["tokens"] > 4
    assert "model must be an artifact id" in found["error"]


def test_jina_with_docarray_v2(flow: RunningFlow, use: Use) -> None:
    errors = use("use_jina", ["jina==3.34.0", "docarray==0.40.0", "setuptools<81"], flow.host)
    assert len(errors) == 18
    assert all("INVALID_ARGUMENT Documents must be those of DocArray v1" in error for error in errors)


def test_openapi_python_client(flow: RunningFlow, vectors: list[Any], use: Use, tmp_path: Path) -> None:
    packages = ["openapi-python-client", "ruff"]  # it formats what it generates
    found = use("use_generated", packages, flow.http, str(tmp_path / "made"))
    assert found["printed"].split() == ["Generating", str(tmp_path / "made")], "no warning"
    assert found["models"][:2] == ["live", "clip-mini"]
    assert close(found["vector"], vectors[0])
    assert found["health"] == "ok"
    assert "dimensions must be 128" in found["refusal"]
