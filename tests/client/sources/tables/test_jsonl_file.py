"""jsonl files: complete, invalid and sampled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.tables import jsonl_file
from finetuner.sources.tables.csv_file import CSVOptions
from finetuner.sources.tables.jsonl_file import jsonl_documents

GOOD = '{"text": "a", "image": "0.jpg"}'


def write(folder: Path, lines: Iterable[Any], name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def read(*paths: Path, task: str = "text-to-image", columns: dict[str, str] | None = None, **given: Any) -> list[Any]:
    on_error = given.pop("on_error", "raise")
    return list(jsonl_documents(paths, CSVOptions(**given), task=task, on_error=on_error, columns=columns))


def test_pairs_with_every_content(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    lines = [
        {"file_name": "0.jpg", "caption": " Kleid ", "label": 7, "score": 0.5, "language": "de", "other": {"x": [1]}},
        "",
        {"caption": "hat\n", "file_name": str(shop / "1.jpg"), "label": None},
        {"caption": "c", "file_name": (shop / "2.jpg").as_uri(), "score": "0,25"},
        {"caption": "d", "file_name": {"bytes": None, "path": "3.jpg"}},
    ]
    documents = read(write(shop, lines))
    assert [read_pair(document) for document in documents] == [
        Pair("Kleid", jpeg(0), "7", "de", 0.5),
        *[Pair(text, jpeg(at), score=score) for at, text, score in ((1, "hat", None), (2, "c", 0.25), (3, "d", None))],
    ]
    assert [document.tags.get("finetuner_score") for document in documents] == [0.5, None, 0.25, None]


def test_labelled_images_by_named_keys(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    path = write(shop, [{"foto": "0.jpg", "art": "shoe"}, {"foto": "1.jpg", "art": 7.0}])
    documents = read(path, task="image-to-image", columns={"image": "foto", "label": "art"})
    assert [(each.blob, each.tags["finetuner_label"]) for each in documents] == [(jpeg(0), "shoe"), (jpeg(1), "7")]


def test_paths_are_relative_to_their_own_file(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    (shop / "b").mkdir()
    (shop / "b/0.jpg").write_bytes(jpeg(9))
    paths = write(shop, [GOOD]), write(shop / "b", ['{"url": "0.jpg", "title": "b"}'])
    assert [read_pair(document) for document in read(*paths)] == [Pair("a", jpeg(0)), Pair("b", jpeg(9))]
    with pytest.raises(InvalidDocument, match=r"b/data.jsonl line 2: line must be a JSON object"):
        read(paths[0], write(shop / "b", [GOOD, "x"]))


@pytest.mark.parametrize(
    ("line", "got"),
    [
        (
            "{",
            "line must be a JSON object. Got an error: Expecting property name enclosed in double quotes at letter 2",
        ),
        ('["a", "0.jpg"]', "line must be a JSON object. Got ['a', '0.jpg']"),
        ("[" * 100_000, "line must be a JSON object. Got an error"),
        (f'{{"text": "a", "image": "0.jpg", "score": {"9" * 5000}}}', "line must be a JSON object. Got an error"),
        ('{"text": "a", "img": "0.jpg"}', "object must have the key 'image'. Got text, img. Add it"),
        ('{"image": "0.jpg"}', "object must have the key 'text'. Got image"),
        ('{"text": 3, "image": "0.jpg"}', "caption must be a nonempty text. Got 3"),
        ('{"text": ["a", 3], "image": "0.jpg"}', "caption must be a nonempty text. Got 3. Add it. (Caption 1 of 2.)"),
        ('{"text": "\\ud800", "image": "0.jpg"}', "caption must be Unicode text"),
        ('{"text": "a", "image": null}', "sample must have an image: bytes, a path or an address. Got none"),
        ('{"text": "a", "image": 3}', "sample must have an image: bytes, a path or an address. Got 3"),
        ('{"text": "a", "image": {"path": null}}', "sample must have an image"),
        ('{"text": "a", "image": {"bytes": "QUJD"}}', "Got 'QUJD', which is not a file in"),
        ('{"text": "a", "image": "none.jpg"}', "Got 'none.jpg', which is not a file in"),
        ('{"text": "a", "image": "0.jpg", "score": NaN}', "score must be a finite number such as 0.8. Got nan"),
        ('{"text": "a", "image": "0.jpg", "score": true}', "score must be a finite number such as 0.8. Got True"),
        ('{"text": "a", "image": "0.jpg", "label": ["x"]}', "label must be a text or a number. Got ['x']"),
    ],
)
def test_invalid_lines_are_named_at_the_call_or_left_out(shop: Path, line: str, got: str) -> None:
    scored = '{"text": "a", "image": "0.jpg", "score": 1, "label": "x"}'
    path = write(shop, [scored, "", line, GOOD])
    with pytest.raises(InvalidDocument, match="Got 1 that cannot be used") as caught:
        jsonl_documents([path], CSVOptions(), task="text-to-image", on_error="raise")
    assert "\n  line 3: " in str(caught.value)
    assert got in str(caught.value)
    with pytest.warns(UserWarning, match="left out 1 entries"):
        assert len(read(path, on_error="skip")) == 2


def test_a_long_line_is_refused_without_reading_it_into_memory(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl_file, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(jsonl_file, "PIECE", 16)
    exact = GOOD + " " * (100 - len(GOOD))
    path = write(shop, [GOOD, "x" * 1000, exact, f"{exact} ", GOOD])
    with pytest.raises(InvalidDocument, match="Got 2 that") as caught:
        read(path)
    assert str(caught.value).count("line must have at most 100 bytes. Got more") == 2
    assert "\n  line 2: " in str(caught.value)
    assert "\n  line 4: " in str(caught.value)
    with pytest.warns(UserWarning, match="left out 2"):
        assert len(read(path, on_error="skip")) == 3
    path.write_text(GOOD + "\n" + "x" * 1000)  # without an end of line
    with pytest.warns(UserWarning, match="left out 1"):
        assert len(read(path, on_error="skip")) == 1


def test_only_utf_8_is_read(shop: Path) -> None:
    path = shop / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{GOOD}\r\n".encode() + b"\xff\n")
    with pytest.raises(InvalidDocument, match="line 2: line must be UTF-8. Got other bytes"):
        read(path)
    path.write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(InvalidInput, match="one JSON object in each line. Got none .* line 1: line must be UTF-8"):
        read(path)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(
    ("lines", "columns", "expected"),
    [
        ([], None, "must hold at least one usable entry. Got none"),
        (["", " "], None, "must hold at least one usable entry. Got none"),
        (["[", GOOD[:9], "]"], None, r"one JSON object in each line. Got none in the first lines"),
        ([{"foto": "0.jpg", "titel": "a"}], None, r"Got foto, titel in .*columns=\{'image': 'foto', 'text': 'titel'\}"),
        ([GOOD], {"image": "foto"}, r"columns\['image'\] must be .*Got 'foto', but its columns are text, image"),
    ],
)
def test_a_file_that_does_not_tell_is_refused(
    shop: Path, lines: list[Any], columns: dict[str, str] | None, expected: str, on_error: str
) -> None:
    with pytest.raises(InvalidInput, match=expected):
        read(write(shop, lines), columns=columns, on_error=on_error)


def test_a_file_that_cannot_be_read_is_refused(shop: Path) -> None:
    with pytest.raises(InvalidInput, match="jsonl file must be readable"):
        read(shop / "none.jsonl")


def test_sampling_is_over_all_files(shop: Path) -> None:
    lines = [{"text": str(number), "image": f"{number % 4}.jpg"} for number in range(400)]
    whole = [read_pair(document).text for document in read(write(shop, lines), sampling_rate=0.1)]
    assert 20 < len(whole) < 60
    halves = write(shop, lines[:200], "0.jsonl"), write(shop, lines[200:], "1.jsonl")
    assert [read_pair(document).text for document in read(*halves, sampling_rate=0.1)] == whole
    assert [read_pair(document).text for document in read(*halves, sampling_rate=0.1, size=30)] == whole[:30]


def test_addresses_are_kept_without_blobs(shop: Path) -> None:
    path = write(shop, [{"url": "http://nowhere.invalid/x", "text": "a", "label": "b"}])
    (pair,) = read(path, convert_to_blob=False)
    assert pair.chunks[1].uri == "http://nowhere.invalid/x"
    (image,) = read(path, task="image-to-image", convert_to_blob=False)
    assert (image.uri, image.tags) == ("http://nowhere.invalid/x", {"finetuner_label": "b"})
    with pytest.raises(InvalidDocument, match="a server cannot read a local path"):
        read(write(shop, [GOOD]), convert_to_blob=False)
