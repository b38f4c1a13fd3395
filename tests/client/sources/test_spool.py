"""Documents on disk, read several times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from docarray import Document, DocumentArray

from finetuner.api.data.upload import batches
from finetuner.documents.pairs import make_pair
from finetuner.sources.spool import Spool


def test_documents_come_back_in_any_order_and_twice(jpeg: Callable[[int], bytes]) -> None:
    pairs = DocumentArray([make_pair(f"caption {number}", jpeg(number), {"n": number}) for number in range(5)])
    with Spool(iter(pairs)) as spool:
        assert len(spool) == 5
        assert list(spool) == list(spool) == list(pairs)
        assert spool[3] == pairs[3]
        assert spool[-1] == pairs[4]
        assert spool[1:3] == list(pairs[1:3])
        assert [len(batch) for batch in batches(spool)] == [5]
        with pytest.raises(IndexError, match="below 5. Got 5"):
            spool[5]
    with pytest.raises(ValueError, match="closed"):
        spool[0]


def test_a_spool_may_be_empty() -> None:
    assert not list(Spool([]))


def test_an_error_of_the_source_passes_through() -> None:
    def broken() -> Iterator[Any]:
        yield Document(text="a")
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        Spool(broken())
