"""Folders of images with a metadata file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.kinds import documents_from
from finetuner.sources.tables.csv_file import CSVOptions
from tests.client.sources.made_shards import parquet

ROWS = [("a", "0.jpg", "x"), ("b", "sub/1.jpg", "y")]


@pytest.fixture
def folder(tmp_path: Path, jpeg: Callable[[int], bytes]) -> Path:
    """Return a folder with images in two places, and their captions beside them."""
    path = tmp_path / "images"
    (path / "sub").mkdir(parents=True)
    for number, name in enumerate(("0", "sub/1", "sub/2")):
        (path / f"{name}.jpg").write_bytes(jpeg(number))
        (path / f"{name}.txt").write_text(f"beside {number}")
    return path


def write(folder: Path, kind: str, names: tuple[str, ...] = ("text", "file_name", "label")) -> None:
    path = folder / f"metadata.{kind}"
    if kind == "csv":
        path.write_text("".join(f"{','.join(row)}\n" for row in (names, *(row[: len(names)] for row in ROWS))))
    elif kind == "jsonl":
        path.write_text("".join(f"{json.dumps(dict(zip(names, row, strict=False)))}\n" for row in ROWS))
    else:
        parquet(path, {name: list(column) for name, column in zip(names, zip(*ROWS, strict=True), strict=False)})


def texts(source: Any, **options: Any) -> list[str]:
    return [read_pair(each).text for each in documents_from(source, task="text-to-image", **options)]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_metadata_file_is_read(folder: Path, jpeg: Callable[[int], bytes], kind: str) -> None:
    write(folder, kind)
    found = [read_pair(each) for each in documents_from(folder, task="text-to-image")]
    assert found == [Pair("a", jpeg(0), "x"), Pair("b", jpeg(1), "y")]
    labelled = list(documents_from(folder, task="image-to-image"))
    assert [(each.blob, each.tags["finetuner_label"]) for each in labelled] == [(jpeg(0), "x"), (jpeg(1), "y")]
    assert texts(folder, csv_options=CSVOptions(size=1)) == ["a"]
    assert texts([folder, folder]) == ["a", "b"] * 2
    with pytest.raises(InvalidInput, match="CSVOptions.size is for one folder. Got 2"):
        texts([folder, folder], csv_options=CSVOptions(size=1))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_its_columns_may_be_named(folder: Path, kind: str) -> None:
    write(folder, kind, ("titel", "file_name"))
    assert texts(folder, columns={"text": "titel", "image": "file_name"}) == ["a", "b"]
    with pytest.raises(
        InvalidInput, match=r"must have a column text or .*columns=\{'image': 'file_name', 'text': 'titel'"
    ):
        texts(folder)


def test_another_file_of_that_name_is_no_table(folder: Path) -> None:
    write(folder, "csv", ("text", "path"))
    with pytest.warns(UserWarning, match=r"1 not an image \(.*metadata.csv"):
        assert texts(folder) == ["beside 0", "beside 1", "beside 2"]
    with pytest.raises(InvalidInput, match="must be a column of .*metadata.csv"):
        texts(folder, columns={"image": "file_name"})


def test_class_folders_have_labels_without_one_in_the_table(folder: Path) -> None:
    write(folder, "jsonl", ("text", "file_name"))
    (folder / "0.jpg").unlink()
    with pytest.warns(UserWarning, match="not an image"):
        found = list(documents_from(folder, task="image-to-image"))
    assert [each.tags["finetuner_label"] for each in found] == ["sub", "sub"]


def test_bad_metadata_is_refused(folder: Path) -> None:
    write(folder, "csv")
    with open(folder / "metadata.csv", "a") as file:
        file.write("c,none.jpg,z\n")
    with pytest.raises(InvalidDocument, match="line 4: image must be a file or a URI. Got 'none.jpg'"):
        texts(folder)
    with pytest.warns(UserWarning, match="left out 1"):
        assert texts(folder, on_error="skip") == ["a", "b"]
    (folder / "metadata.parquet").write_bytes(b"x")
    with pytest.raises(InvalidInput, match="at most one metadata file. Got '.*metadata.csv', '.*metadata.parquet'"):
        texts(folder)
    (folder / "metadata.csv").unlink()
    with pytest.raises(InvalidInput, match="parquet file must be readable"):
        texts(folder)
