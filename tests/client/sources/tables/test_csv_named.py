"""CSV and TSV files with a header."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.tables.csv_documents import csv_documents
from finetuner.sources.tables.csv_file import CsvFile, CSVOptions
from tests.client.sources.made_csv import write


def read(path: Any, columns: dict[str, str] | None = None, task: str = "text-to-image", **given: Any) -> list[Any]:
    on_error = given.pop("on_error", "raise")
    return list(csv_documents(path, CSVOptions(**given), task=task, on_error=on_error, columns=columns))


@pytest.mark.parametrize(
    "lines",
    [
        "text,image\na,0.jpg\nb,1.jpg\n",
        "\ufeffimage,text\r\n0.jpg,a\r\n\r\n1.jpg,b\r\n",
        "filepath\ttitle\n0.jpg\ta\n1.jpg\tb\n",  # open_clip's
        "id;Caption;width;file_name;height\n7;a;640;0.jpg;480\n8;b;640;1.jpg;480\n",
        "file_name|description|prompt\n0.jpg|x|a\n1.jpg|x|b\n",
        '\n"url","text"\n"0.jpg"," a "\n"1.jpg","b"\n',
    ],
)
def test_a_header_with_well_known_names_is_found(shop: Path, jpeg: Callable[[int], bytes], lines: str) -> None:
    found = [read_pair(document) for document in read(write(shop, lines))]
    assert found == [Pair("a", jpeg(0)), Pair("b", jpeg(1))]


def test_the_columns_that_are_found_are_logged_in_one_line(shop: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "finetuner")
    path = write(shop, "caption,id,image,category\na,1,0.jpg,shoe\n")
    (document,) = read(path)
    assert document.tags == {"finetuner_label": "shoe"}
    assert caplog.messages == [
        f"{str(path)!r}: image is column 'image', text is column 'caption', label is column 'category'; not read: id"
    ]


def test_named_columns_are_read(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    path = write(shop, "Titel;Foto;Art;Note;image\nKleid, rot;0.jpg;Kleid;0,5;x\nHut, grün;1.jpg;;;x\n")
    named = {"image": "Foto", "text": "Titel", "label": "Art", "score": "Note"}
    documents = read(path, named)
    assert [read_pair(document) for document in documents] == [
        Pair("Kleid, rot", jpeg(0), "Kleid", score=0.5),
        Pair("Hut, grün", jpeg(1)),
    ]
    assert [dict(document.tags) for document in documents] == [{"finetuner_label": "Kleid", "finetuner_score": 0.5}, {}]


def test_an_image_model_reads_labels(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    path = write(shop, "image,text,label\n0.jpg,a,shoe\n1.jpg,,7\n")
    for options in ({}, {"is_labeled": True}):
        documents = read(path, task="image-to-image", **options)
        assert [(each.blob, each.tags["finetuner_label"]) for each in documents] == [(jpeg(0), "shoe"), (jpeg(1), "7")]
    with pytest.raises(InvalidDocument, match="line 2: sample must have a label for image-to-image. Got None"):
        read(write(shop, "image,label\n0.jpg,\n"), task="image-to-image")


@pytest.mark.parametrize(
    ("lines", "columns", "expected"),
    [
        ("text,foto\na,0.jpg\n", None, r"Got text, foto in .*columns=\{'image': 'foto', 'text': 'text'\}"),
        (
            "id,foto,titel,x\n7,0.jpg,a,x\n",
            None,
            r"Got id, foto, titel, x in .*columns=\{'image': 'id', 'text': 'foto'\}",
        ),
        ("id;foto;titel;x\n7;0.jpg;a, b, c, d;x\n", None, "Got id, foto, titel, x in"),
        ("image\n0.jpg\n", None, "must have a column text or caption"),
        ("a,0.jpg\nb,1.jpg\n", {"image": "image", "text": "text"}, r"Got 'image', but its columns are a, 0.jpg"),
        (
            "text;image;x\na;0.jpg;1\n",
            {"label": "art"},
            r"columns\['label'\] must be .* Got 'art', but its columns are",
        ),
    ],
)
def test_a_header_that_does_not_tell_is_refused_with_its_columns(
    shop: Path, lines: str, columns: dict[str, str] | None, expected: str
) -> None:
    for on_error in ("raise", "skip"):
        with pytest.raises(InvalidInput, match=expected):
            read(write(shop, lines), columns, on_error=on_error)


@pytest.mark.parametrize(
    "lines", ["text,image.jpg\nb,1.jpg\n", "image.jpg,title\n1.jpg,b\n", "caption,data:image/png;x\n", "text,x/y.png\n"]
)
def test_a_first_line_with_an_image_is_data(shop: Path, lines: str) -> None:
    assert CsvFile(write(shop, lines), CSVOptions()).header is None


def test_without_a_header_the_first_line_may_be_bad(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    path = write(shop, "titel,foto\na,0.jpg\nb,1.jpg\n")
    with pytest.raises(
        InvalidDocument, match=r"line 1: .* header, with the columns titel, foto, name them, for .*columns=\{'im"
    ):
        read(path)
    with pytest.warns(UserWarning, match="left out 1"):
        assert len(read(path, on_error="skip")) == 2
    assert len(read(path, {"text": "titel", "image": "foto"})) == 2


@pytest.mark.parametrize(
    ("row", "got"),
    [
        ("a", "row must have 3 columns like the header. Got 1"),
        ("a,0.jpg,1,2", "row must have 3 columns like the header. Got 4"),
        (",0.jpg,1", "caption must be a nonempty text. Got None"),
        ("a,,1", "sample must have an image: bytes, a path or an address. Got none"),
        ("a,none.jpg,1", "Got 'none.jpg', which is not a file in"),
        ("a,data.csv,1", "does not begin like one"),
        ("a,0.jpg,high", "score must be a finite number such as 0.8. Got 'high'"),
        ('"a\nb",none.jpg,1', "Got 'none.jpg', which is not a file in"),
    ],
)
def test_invalid_lines_are_named_at_the_call_or_left_out(shop: Path, row: str, got: str) -> None:
    path = write(shop, f"text,image,score\na,0.jpg,1\n{row}\nb,1.jpg,2\n")
    with pytest.raises(InvalidDocument, match="Got 1 that cannot be used") as caught:
        csv_documents(path, CSVOptions(), task="text-to-image", on_error="raise")
    assert "\n  line 3: " in str(caught.value)
    assert got in str(caught.value)
    with pytest.warns(UserWarning, match="left out 1 entries"):
        assert [read_pair(document).text for document in read(path, on_error="skip")] == ["a", "b"]


@pytest.mark.parametrize("columns", [None, {"image": "image", "text": "text"}])
@pytest.mark.parametrize("lines", ["", "\n", "text,image\n"])
def test_a_file_without_rows_is_refused(shop: Path, lines: str, columns: dict[str, str] | None) -> None:
    with pytest.raises(InvalidInput, match="must hold at least one usable entry. Got none"):
        read(write(shop, lines), columns)


def test_a_header_in_another_encoding_is_refused(shop: Path) -> None:
    with pytest.raises(InvalidInput, match="header of .* must be readable.*text must be utf-8"):
        read(write(shop, "grün,image\na,0.jpg\n", "latin-1"), {"text": "grün"})


def test_options_and_streams(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"{number},{number % 4}.jpg\n" for number in range(200))
    path, plain = write(shop, f"text,image\n{rows}"), shop / "plain.csv"
    plain.write_text(rows)
    for options in ({"size": 3}, {"sampling_rate": 0.1}, {"sampling_rate": 0.1, "size": 5}):
        texts = [read_pair(document).text for document in read(path, **options)]
        assert texts == [read_pair(document).text for document in read(plain, **options)]
    (document,) = read(write(shop, "url,text\nhttp://nowhere.invalid/x,a\n"), convert_to_blob=False)
    assert document.chunks[1].uri == "http://nowhere.invalid/x"
    with pytest.raises(InvalidDocument, match="line 2: .* a server cannot read a local path"):
        read(write(shop, "url,text\n0.jpg,a\n"), convert_to_blob=False)
    monkeypatch.chdir(shop)
    assert len(read(io.StringIO("x*image*text\n1*0.jpg*a\n"), dialect=_stars())) == 1
    with open(write(shop, "filepath\ttitle\n0.jpg\ta\n")) as file:
        assert len(read(file)) == 1


def _stars() -> Any:
    class Stars(csv.excel):
        delimiter = "*"

    return Stars
