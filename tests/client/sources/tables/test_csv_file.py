"""CSV files in every form, and errors of invalid ones."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.tables.csv_documents import csv_documents
from finetuner.sources.tables.csv_file import CsvFile, CSVOptions, Row
from tests.client.sources.made_csv import read, write

LINES = 20_000


def texts(path: Any, **options: Any) -> list[str]:
    return [read_pair(document).text for document in read(path, **options)]


def rows(text: str, **options: Any) -> list[tuple[int, list[str]]]:
    found = [row for _, row in CsvFile(io.StringIO(text, newline=""), CSVOptions(**options)).rows()]
    return [(row.line, row.fields) for row in found if isinstance(row, Row)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, jpeg: Callable[[int], bytes]) -> Path:
    """Return a CSV file of LINES pairs over four images, with three different invalid lines."""
    folder = tmp_path_factory.mktemp("large")
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
    lines = [f"caption {number},{number % 4}.jpg" for number in range(1, LINES + 1)]
    lines[776] = "caption 777,missing.jpg"
    lines[10_000] = "caption 10001,1.jpg,one too many,and another"
    lines[19_998] = ",3.jpg"
    (folder / "large.csv").write_text("\n".join(lines) + "\n")
    return folder / "large.csv"


def test_one_error_names_all_invalid_lines_of_a_large_file(large: Path) -> None:
    with pytest.raises(InvalidDocument) as caught:
        csv_documents(large, CSVOptions(), task="text-to-image", on_error="raise")
    message = str(caught.value)
    assert "Got 3 that cannot be used" in message
    assert "line 777: image must be a file or a URI. Got 'missing.jpg'" in message
    assert "line 10001: row must have 2 columns" in message
    assert "line 19999: row must have no empty column" in message
    assert message.count("\n  line ") == 3
    assert "on_error='skip'" in message


@pytest.mark.seconds
def test_skip_leaves_invalid_lines_out_with_one_warning(large: Path) -> None:
    with pytest.warns(UserWarning, match="left out 3 entries") as caught:
        documents = read(large, on_error="skip")
    assert len(documents) == LINES - 3
    (message,) = [str(warning.message) for warning in caught if warning.category is UserWarning]
    assert all(f"line {line}:" in message for line in (777, 10_001, 19_999))
    assert read_pair(documents[-1]).text == f"caption {LINES}"


@pytest.mark.parametrize("lines", ["a,0.jpg\nb,1.jpg\n", "0.jpg,a\n1.jpg,b\n", "\ufeffa,0.jpg\r\n\r\nb,1.jpg\r\n,\r\n"])
def test_text_and_image_may_be_in_either_order(shop: Path, jpeg: Callable[[int], bytes], lines: str) -> None:
    pairs = [read_pair(document) for document in read(write(shop, lines))]
    assert pairs == [Pair("a", jpeg(0)), Pair("b", jpeg(1))]


def test_a_row_in_the_other_order_is_named(shop: Path) -> None:
    path = write(shop, "a,0.jpg\nb,1.jpg\n2.jpg,c\nd,3.jpg\n")
    with pytest.raises(InvalidDocument, match="line 3: row must be text, image like the first rows") as caught:
        read(path)
    assert str(caught.value).count("\n  line ") == 1
    with pytest.raises(InvalidDocument, match="line 2: row must be image, text"):
        read(write(shop, "0.jpg,a\nb,1.jpg\n"))


def test_a_caption_that_looks_like_a_file_is_a_caption(shop: Path) -> None:
    assert texts(write(shop, "3.jpg,0.jpg\na,1.jpg\nb,2.jpg\n")) == ["3.jpg", "a", "b"]


def test_a_file_of_captions_alone_is_refused(shop: Path) -> None:
    with pytest.raises(InvalidInput, match=r"Got \['a', 'b'\] in line 1; the image column is unclear"):
        read(write(shop, "a,b\n"))


@pytest.mark.parametrize(
    ("lines", "where", "got"),
    [
        ("a,0.jpg\nb\nc,1.jpg\n", "line 2", "Got 1: 'b'"),
        ("a,0.jpg\nb,1.jpg,0.5\nc,1.jpg\n", "line 2", "Got 3: 'b', '1.jpg', '0.5'"),
        ("a,0.jpg,x\n", "line 1", "finite number such as 0.8. Got 'x'"),
        ("a,0.jpg,nan\n", "line 1", "finite number such as 0.8. Got 'nan'"),
        ("a,0.jpg\n ,1.jpg\n", "line 2", "no empty column. Got '', '1.jpg'"),
        ('"a\nb\nc",0.jpg\nd,missing.jpg\n', "line 4", "Got 'missing.jpg', which is not a file in"),
        ("a,0.jpg\nb,data.csv\n", "line 2", "does not begin like one"),
        ("name,path\na,0.jpg\n", "line 1", "header, with the columns name, path, name them, for example columns={"),
        ("a,0.jpg\nb,c\x00d.jpg\n", "line 2", "text must be utf-8"),
        ("a,0.jpg\nb,data:image/png;base64,?\n", "line 2", "row must have 2 columns"),
        ('a,0.jpg\nb,"data:image/png;base64,?"\n', "line 2", "valid base64"),
        ("a\nb\n", "line 1", "Got 1: 'a'"),
    ],
)
def test_an_invalid_line_is_named_with_its_reason(shop: Path, lines: str, where: str, got: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        csv_documents(write(shop, lines), CSVOptions(), task="text-to-image", on_error="raise")
    assert f"\n  {where}: " in str(caught.value)
    assert got in str(caught.value)


def test_only_the_first_twenty_are_named(shop: Path) -> None:
    with pytest.raises(InvalidDocument, match="Got 30 that") as caught:
        read(write(shop, "a,0.jpg\n" + "b,missing.jpg\n" * 30))
    assert str(caught.value).count("\n  line ") == 20
    assert "  and 10 more" in str(caught.value)


def test_damage_found_while_decoding_is_named(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    (shop / "cut.jpg").write_bytes(jpeg(1)[:-60])
    path = write(shop, "a,0.jpg\nb,cut.jpg\nc,1.jpg\nd,cut.jpg\n")
    documents = csv_documents(path, CSVOptions(), task="text-to-image", on_error="raise")
    assert read_pair(next(documents)).text == "a"
    with pytest.raises(InvalidDocument, match="(?s)Got 2 .*line 2: image must.*line 4: image must"):
        next(documents)
    with pytest.warns(UserWarning, match="left out 2"):
        assert [read_pair(document).text for document in read(path, on_error="skip")] == ["a", "c"]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_auto_detects_the_delimiter(delimiter: str) -> None:
    text = f'a dog; or, a | cat{delimiter}0.jpg\n"quoted{delimiter} ""text"""{delimiter} "1.jpg"\nx{delimiter}2.jpg\n'
    if delimiter != "\t":
        text = text.replace("a dog; or, a | cat", "a dog")
    assert rows(text)[1] == (2, [f'quoted{delimiter} "text"', "1.jpg"])


def test_dialects_of_the_csv_module_are_accepted() -> None:
    class Stars(csv.excel):
        delimiter = "*"

    assert rows("a,b\tc\n", dialect="excel-tab") == [(1, ["a,b", "c"])]
    assert rows("a,b\tc\n", dialect="excel") == [(1, ["a", "b\tc"])]
    assert rows("a,b*c\n", dialect=Stars) == rows("a,b*c\n", dialect=Stars()) == [(1, ["a,b", "c"])]


def test_line_numbers_include_skipped_lines() -> None:
    assert rows('a,b\n\n"c\n\nd",e\n  \nf,g\n') == [(1, ["a", "b"]), (3, ["c\n\nd", "e"]), (7, ["f", "g"])]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le"])
def test_encodings(shop: Path, encoding: str) -> None:
    path = write(shop, "grün,0.jpg\nweiß,1.jpg\n", encoding)
    assert texts(path, encoding=encoding) == ["grün", "weiß"]


def test_a_wrong_encoding_is_named_by_line(shop: Path) -> None:
    path = write(shop, "green,0.jpg\ngrün,1.jpg\nblue,2.jpg\n", "latin-1")
    with pytest.raises(InvalidDocument, match=r"line 2: text must be utf-8. Got other bytes; set CSVOptions\(enc"):
        read(path)
    with pytest.warns(UserWarning, match="left out 1"):
        assert texts(path, on_error="skip") == ["green", "blue"]
    with pytest.raises(InvalidInput, match="begins with a UTF-16 byte order mark"):
        read(write(shop, "a,0.jpg\n", "utf-16"))
    path.write_bytes("a,0.jpg\n".encode("utf-16-le") + b"\x00\xdc")
    with pytest.raises(InvalidDocument, match="text must be utf-16-le. Got other bytes"):
        read(path, encoding="utf-16-le")


def test_an_open_quote_does_not_swallow_the_file() -> None:
    text = 'a,0.jpg\n"b,1.jpg\n' + "c,2.jpg\n" * 40_000
    found = list(CsvFile(io.StringIO(text), CSVOptions()).rows())
    assert found[1][0] == "line 2"
    assert isinstance(found[1][1], InvalidDocument)
    assert len(found) > 20_000


def test_size_and_sampling_rate(shop: Path) -> None:
    path = write(shop, "".join(f"{number},{number % 4}.jpg\n" for number in range(1000)) + "bad\n")
    assert texts(path, size=3) == ["0", "1", "2"]
    some = texts(path, sampling_rate=0.1, size=50)
    assert some == texts(path, sampling_rate=0.1, size=50)
    assert len(some) == 50
    assert 300 < int(some[-1]) < 700
    with pytest.warns(UserWarning, match="left out 1"):
        assert len(texts(write(shop, "bad\n" + "a,0.jpg\n" * 9), size=3, on_error="skip")) == 3


def test_images_may_be_uris(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    data = "data:image/jpeg;base64," + base64.b64encode(jpeg(5)).decode()
    path = write(shop, f'a,"{data}"\nb,{(shop / "1.jpg").as_uri()}\nc,{shop / "2.jpg"}\n')
    assert [read_pair(document).image for document in read(path)] == [jpeg(5), jpeg(1), jpeg(2)]


def test_without_blobs_only_remote_uris_are_accepted(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    data = "data:image/jpeg;base64," + base64.b64encode(jpeg(5)).decode()
    documents = read(write(shop, f'a,"{data}"\nb,http://nowhere.invalid/x.jpg\n'), convert_to_blob=False)
    assert [document.chunks[1].uri for document in documents] == [data, "http://nowhere.invalid/x.jpg"]
    assert [document.chunks[1].modality for document in documents] == ["image", "image"]
    with pytest.raises(InvalidDocument, match="line 1: .* a server cannot read a local path"):
        read(write(shop, "a,0.jpg\n"), convert_to_blob=False)


def test_relative_paths_start_at_the_file_then_at_the_working_directory(
    shop: Path, monkeypatch: pytest.MonkeyPatch, jpeg: Callable[[int], bytes]
) -> None:
    other = shop / "other"
    other.mkdir()
    (other / "0.jpg").write_bytes(jpeg(7))
    (other / "9.jpg").write_bytes(jpeg(9))
    monkeypatch.chdir(other)
    path = write(shop, "a,0.jpg\nb,9.jpg\n")
    assert [read_pair(document).image for document in read(path)] == [jpeg(0), jpeg(9)]
    with open(path) as file:
        assert [read_pair(document).image for document in read(file)] == [jpeg(0), jpeg(9)]
    assert [read_pair(document).image for document in read(io.StringIO("a,0.jpg\n"))] == [jpeg(7)]


def test_a_stream_that_cannot_seek_is_read(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe(io.StringIO):
        def seekable(self) -> bool:
            return False

    monkeypatch.chdir(shop)
    assert texts(Pipe('"a\nb",0.jpg\nc,1.jpg\n')) == ["a\nb", "c"]


def test_a_binary_or_partly_read_stream_is_refused(shop: Path) -> None:
    path = write(shop, "a,0.jpg\nb,1.jpg\n")
    with open(path, "rb") as binary, pytest.raises(InvalidInput, match="CSV stream must be text"):
        read(binary)
    with open(path) as begun:
        next(begun)
        with pytest.raises(InvalidInput, match="CSV stream must be open and at a line's start"):
            read(begun)
    with pytest.raises(InvalidInput, match="must be open"):
        read(begun)


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_a_file_without_rows_is_refused(shop: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match="must hold at least one usable entry. Got none"):
        read(write(shop, text))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="CSV file must be readable"):
        read(tmp_path / "none.csv")


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"size": True},
        {"sampling_rate": 0},
        {"sampling_rate": 1.5},
        {"sampling_rate": float("nan")},
        {"dialect": "nonesuch"},
        {"dialect": 3},
        {"encoding": "nonesuch"},
        {"encoding": "base64"},
        {"is_labeled": 1},
        {"convert_to_blob": None},
        {"create_point_clouds": False},
        {"point_cloud_size": 1024},
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=f"{next(iter(options))}.* must be .*Got"):
        CSVOptions(**options)
