"""Samples of Arrow's tables: the names of classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from finetuner.sources.tables.arrow import class_names, with_class_name
from tests.client.sources.made_shards import from_parquet

CLASSES = {"_type": "ClassLabel", "names": ["cat", "dog"]}


def schema(metadata: bytes | None) -> Any:
    return pa.schema([("label", pa.int64())], {"huggingface": metadata} if metadata is not None else None)


def described(feature: Any) -> bytes:
    return json.dumps({"info": {"features": {"label": feature}}}).encode()


def test_labels_of_parquet_are_the_names_of_their_classes(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    table = pa.table({"image": [jpeg(0), jpeg(1)], "label": [1, 0]})
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": described(CLASSES)}), path)
    documents = from_parquet(path, task="image-to-image")
    assert [document.tags["finetuner_label"] for document in documents] == ["dog", "cat"]


@pytest.mark.parametrize(
    "metadata",
    [
        *(
            None,
            b"",
            b"[]",
            b"{",
            b"\xff",
            b"[" * 100_000,
            b'{"info": 3}',
            described(None),
            described({"names": ["a"]}),
        ),
        described({"_type": "Value", "names": ["a"]}),
        described({"_type": "ClassLabel", "names": [1]}),
        described({"_type": "ClassLabel", "names": "cat"}),
    ],
)
def test_other_metadata_has_no_classes(metadata: bytes | None) -> None:
    assert class_names(schema(metadata), {"label": ("label",)}) == []


def test_numbers_without_a_class_stay() -> None:
    names = class_names(schema(described(CLASSES)), {"label": ("label",)})
    assert names == ["cat", "dog"]
    assert class_names(schema(described(CLASSES)), {"image": ("image",)}) == []
    for label, expected in ((0, "cat"), (-1, None), (2, 2), (-2, -2), ("x", "x"), (None, None)):
        assert with_class_name({"label": label}, names)["label"] == expected
    assert with_class_name({"label": 1}, []) == {"label": 1}
