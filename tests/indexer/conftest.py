"""Documents as they leave the encoders, and an index that is closed at the end of its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document
from numpy.typing import ArrayLike

from executors.indexer.index import Index
from finetuner.contract.wire import ARTIFACT_TAG


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
