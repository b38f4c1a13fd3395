"""Documents as they leave the encoders, and an index that is closed at the end of its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray
from jina import Executor
from numpy.typing import ArrayLike

from finetuner.contract.wire import ARTIFACT_TAG
from finetuner.executors.indexer.executor import Indexer
from finetuner.executors.indexer.index import Index

MakeDocument = Callable[..., Document]
CONFIG = Path(__file__).parents[2] / "executors" / "indexer" / "config.yml"


@pytest.fixture(scope="session")
def encoded() -> Callable[..., Document]:
    """Make a document as an encoder answers it: embedding, and its artifact beside it."""

    def make(
        document_id: str, embedding: ArrayLike | None, artifact: str | None = "model-a", **fields: Any
    ) -> Document:
        tags = dict(fields.pop("tags", {}))
        if artifact is not None:
            tags[ARTIFACT_TAG] = artifact
        vector = None if embedding is None else np.asarray(embedding)
        return Document(id=document_id, embedding=vector, tags=tags, **fields)

    return make


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An empty index."""
    opened = Index(tmp_path / "index")
    yield opened
    opened.close()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Indexer]:
    made = Executor.load_config(str(CONFIG), uses_with={"workspace_url": str(tmp_path)})
    yield made
    made.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, encoded: MakeDocument) -> Iterator[Indexer]:
    """Thirty images, for tests that only read."""
    made = Indexer(workspace_url=str(tmp_path_factory.mktemp("filled")))
    vectors = np.random.default_rng(0).normal(size=(30, 8))
    made.index(
        docs=DocumentArray(
            [
                encoded(f"d{i}", vector, blob=bytes([i]) * 100, mime_type="image/png", tags={"number": i})
                for i, vector in enumerate(vectors)
            ]
        )
    )
    yield made
    made.close()
