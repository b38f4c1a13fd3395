"""Parquet files: complete, invalid and truncated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.parquet_file import parquet_documents
from tests.client.sources.made_shards import from_parquet, parquet


@pytest.mark.parametrize("text", ["text", "caption"])
def test_parquet_with_binary_images(tmp_path: Path, jpeg: Callable[[int], bytes], text: str) -> None:
    columns = {text: [" a", "b", "c"], "image": [jpeg(0), jpeg(1), jpeg(2)], "label": [7, None, 9], "other": [1, 2, 3]}
    documents = from_parquet(parquet(tmp_path / "a.parquet", {**columns, "score": [0.5, None, 1]}))
    assert [read_pair(document) for document in documents] == [
        Pair("a", jpeg(0), "7"),
        Pair("b", jpeg(1)),
        Pair("c", jpeg(2), "9"),
    ]
    assert [document.tags.get("finetuner_score") for document in documents] == [0.5, None, 1.0]


def test_parquet_of_hugging_face(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    images = [{"bytes": jpeg(0), "path": "/etc/passwd"}, {"bytes": jpeg(1), "path": None}]
    paths = [
        parquet(tmp_path / f"{n}.parquet", {"image": [images[n]], "text": ["a"], "language": ["de"]}) for n in (1, 0)
    ]
    assert [read_pair(document) for document in from_parquet(*paths)] == [
        Pair("a", jpeg(1), language="de"),
        Pair("a", jpeg(0), language="de"),
    ]


def test_parquet_with_labels(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": [jpeg(0)], "label": ["shoe"]})
    (document,) = from_parquet(path, task="image-to-image")
    assert (document.blob, document.modality, document.tags) == (jpeg(0), "image", {"finetuner_label": "shoe"})


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"photo": [b"x"], "text": ["a"]}, "must have a column image or .*Got photo, text in"),
        ({"image": [b"x"], "title": ["a"]}, "must have a column text or caption. Got image, title"),
        ({"image": ["x.jpg"], "text": ["a"]}, "column image must be binary or a struct of bytes and path. Got string"),
        ({"image": [{"path": "x.jpg"}], "text": ["a"]}, "Got struct<path: string>"),
    ],
)
def test_invalid_columns_are_refused_at_the_call(tmp_path: Path, columns: dict[str, Any], expected: str) -> None:
    path = parquet(tmp_path / "a.parquet", columns)
    with pytest.raises(InvalidInput, match=expected):
        parquet_documents([path], task="text-to-image", on_error="skip")


def test_image_to_image_requires_labels(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": [b"x"], "text": ["a"]})
    with pytest.raises(InvalidInput, match="for image-to-image must have a column label"):
        parquet_documents([path], task="image-to-image", on_error="raise")


def test_invalid_rows_are_named(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    images = [{"bytes": blob, "path": "x"} for blob in (jpeg(0), None, b"no image", jpeg(1), jpeg(2))]
    path = parquet(tmp_path / "a.parquet", {"image": images, "text": ["a", "b", "c", None, "e"]})
    with pytest.raises(InvalidDocument, match="Got 3 that") as caught:
        from_parquet(path)
    assert "row 1: sample must hold its image's bytes. Got none. Add them; paths are not read." in str(caught.value)
    assert "row 2: image must be an image file" in str(caught.value)
    assert "row 3: caption must be a nonempty text. Got None" in str(caught.value)
    with pytest.warns(UserWarning, match="left out 3"):
        documents = from_parquet(path, on_error="skip")
    assert [read_pair(document).text for document in documents] == ["a", "e"]


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(InvalidInput, match="parquet file must be readable"):
        from_parquet(tmp_path / "a.parquet")
    with pytest.raises(InvalidInput, match="at least one usable entry"):
        from_parquet(parquet(tmp_path / "b.parquet", {"image": pa.array([], pa.binary()), "text": []}))
