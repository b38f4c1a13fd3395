"""Parquet files: complete, invalid and truncated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.tables.csv_file import CSVOptions
from finetuner.sources.tables.parquet_file import parquet_documents
from tests.client.sources.made_shards import from_parquet, parquet


@pytest.mark.parametrize("text", ["text", "caption"])
def test_parquet_with_binary_images(tmp_path: Path, jpeg: Callable[[int], bytes], text: str) -> None:
    columns = {text: [" a", "b", "c"], "image": [jpeg(0), jpeg(1), jpeg(2)], "label": [7, None, 9], "other": [1, 2, 3]}
    documents = from_parquet(parquet(tmp_path / "a.parquet", {**columns, "score": [0.5, None, 1]}))
    assert [read_pair(document) for document in documents] == [
        Pair("a", jpeg(0), "7", score=0.5),
        Pair("b", jpeg(1)),
        Pair("c", jpeg(2), "9", score=1.0),
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


def test_parquet_with_paths_beside_each_file(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    paths = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / f"{number}/x.jpg").write_bytes(jpeg(number))
        columns = {"file_name": ["x.jpg", {0: "../1/x.jpg", 1: "x.jpg"}[number]], "title": ["a", "b"]}
        paths.append(parquet(tmp_path / f"{number}/a.parquet", columns))
    found = [read_pair(document) for document in from_parquet(*paths)]
    assert found == [Pair("a", jpeg(0)), *[Pair(text, jpeg(1)) for text in "bab"]]
    structs = [
        {"bytes": None, "path": "x.jpg"},
        {"bytes": jpeg(7), "path": "x.jpg"},
        {"bytes": b"", "path": "none.jpg"},
    ]
    path = parquet(tmp_path / "0/b.parquet", {"image": structs, "text": ["a", "b", "c"]})
    with pytest.raises(InvalidDocument, match="Got 1 that .*\n.*row 2: image must be a file or a URI. Got 'none.jpg'"):
        from_parquet(path)
    with pytest.warns(UserWarning, match="left out 1"):
        documents = from_parquet(path, on_error="skip")
    assert [read_pair(document).image for document in documents] == [jpeg(0), jpeg(7)]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_texts_of_every_type(shop: Path, jpeg: Callable[[int], bytes], kind: Any) -> None:
    columns = {name: pa.array([value], kind) for name, value in (("img", "0.jpg"), ("text", "a"), ("label", "b"))}
    (document,) = from_parquet(parquet(shop / "a.parquet", columns))
    assert read_pair(document) == Pair("a", jpeg(0), "b")


def test_named_columns_alone_are_read(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    columns = {"foto": [jpeg(0)], "image": [jpeg(1)], "titel": ["a"], "art": [7], "label": ["x"], "note": ["0,5"]}
    path = parquet(tmp_path / "a.parquet", columns)
    named = {"image": "foto", "text": "titel", "score": "note"}
    (document,) = parquet_documents([path], task="text-to-image", on_error="raise", columns=named)
    assert (read_pair(document), dict(document.tags)) == (Pair("a", jpeg(0), score=0.5), {"finetuner_score": 0.5})
    named = {"image": "image", "text": "titel", "label": "titel"}  # one column may be read twice
    (document,) = parquet_documents([path], task="text-to-image", on_error="raise", columns=named)
    assert read_pair(document) == Pair("a", jpeg(1), "a")
    with pytest.raises(
        InvalidInput, match=r"columns\['image'\] must be .* Got 'photo', but its columns are foto, image"
    ):
        parquet_documents([path], task="text-to-image", on_error="raise", columns={"image": "photo"})


def test_the_columns_are_logged_once(
    tmp_path: Path, jpeg: Callable[[int], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "finetuner")
    paths = [parquet(tmp_path / f"{n}.parquet", {"img": [jpeg(n)], "prompt": ["a"], "id": [n]}) for n in range(3)]
    assert len(from_parquet(*paths)) == 3
    assert caplog.messages == [f"{str(paths[0])!r}: image is column 'img', text is column 'prompt'; not read: id"]


def test_sampling_is_over_all_files(shop: Path) -> None:
    def write(name: str, numbers: range) -> Path:
        return parquet(shop / name, {"image": [f"{n % 4}.jpg" for n in numbers], "text": [str(n) for n in numbers]})

    def texts(*paths: Path, **options: Any) -> list[str]:
        documents = parquet_documents(paths, CSVOptions(**options), task="text-to-image", on_error="raise")
        return [read_pair(document).text for document in documents]

    whole = texts(write("all.parquet", range(400)), sampling_rate=0.1)
    assert 20 < len(whole) < 60
    halves = write("0.parquet", range(200)), write("1.parquet", range(200, 400))
    assert texts(*halves, sampling_rate=0.1) == whole
    assert texts(*halves, sampling_rate=0.1, size=30) == whole[:30]


def test_addresses_are_kept_without_blobs(shop: Path) -> None:
    columns = {"url": ["http://nowhere.invalid/x", "0.jpg"], "caption": ["a", "b"]}
    path = parquet(shop / "a.parquet", columns)
    options = CSVOptions(convert_to_blob=False)
    with pytest.warns(UserWarning, match="row 1: .* a server cannot read a local path"):
        (pair,) = parquet_documents([path], options, task="text-to-image", on_error="skip")
    assert pair.chunks[1].uri == "http://nowhere.invalid/x"


def test_parquet_with_labels(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": [jpeg(0)], "label": ["shoe"]})
    (document,) = from_parquet(path, task="image-to-image")
    assert (document.blob, document.modality, document.tags) == (jpeg(0), "image", {"finetuner_label": "shoe"})


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"photo": [b"x"], "text": ["a"]}, "must have a column image or .*Got photo, text in"),
        ({"image": [b"x"], "titel": ["a"]}, "must have a column text or caption or .*Got image, titel"),
        (
            {"image": [7], "text": ["a"]},
            "column image must be binary, text .* or a struct of bytes and path. Got int64",
        ),
        ({"image": [{"path": 7}], "text": ["a"]}, "Got struct<path: int64>"),
        ({"image": [{"uri": "x.jpg"}], "text": ["a"]}, "Got struct<uri: string>"),
        ({"image": [b"x"], "text": [7]}, "column text must be text or lists of text. Got int64"),
        ({"image": [b"x"], "text": [[7, 8]]}, r"Got list<\w+: int64> .*name another one: columns=\{'text': ...\}"),
        ({"image": [b"x"], "text": ["a"], "label": [["a"]]}, "column label must be text or numbers. Got list"),
        ({"image": [b"x"], "text": ["a"], "score": [True]}, "column score must be numbers. Got bool"),
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
    assert "row 1: image must be a file or a URI. Got 'x', which is not a file in " in str(caught.value)
    assert "row 2: image must be an image file" in str(caught.value)
    assert "row 3: caption must be a nonempty text. Got None" in str(caught.value)
    with pytest.warns(UserWarning, match="left out 3"):
        documents = from_parquet(path, on_error="skip")
    assert [read_pair(document).text for document in documents] == ["a", "e"]


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    for content in (b"PAR1 or not", b"text,image\na,0.jpg\n", b""):
        (tmp_path / "a.parquet").write_bytes(content)
        with pytest.raises(
            InvalidInput, match="parquet file must be readable. Got .* Check that it is whole and is parq"
        ):
            from_parquet(tmp_path / "a.parquet")
    with pytest.raises(InvalidInput, match="at least one usable entry"):
        from_parquet(parquet(tmp_path / "b.parquet", {"image": pa.array([], pa.binary()), "text": []}))
