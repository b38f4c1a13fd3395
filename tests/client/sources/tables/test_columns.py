"""Columns by their names: given, well known, missing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from finetuner.exceptions import InvalidInput
from finetuner.sources.tables.columns import WELL_KNOWN, checked_columns, find_columns, say_columns, shown

ISSUE = {
    "image": ("image", "image_path", "filepath", "file_name", "url", "img"),
    "text": ("text", "caption", "title", "prompt", "description"),
    "label": ("label", "category"),
    "score": ("score",),
}


def found(*names: str, task: str = "text-to-image", **columns: str) -> dict[str, str]:
    return {content: " ".join(each) for content, each in find_columns(names, columns or None, task, "'x.csv'").items()}


@pytest.mark.parametrize("content", ISSUE)
def test_well_known_names_are_found_in_any_case(content: str) -> None:
    for name in ISSUE[content]:
        assert name in WELL_KNOWN[content]
        others = [each for each in ("image", "text") if each != content]
        assert found("id", *others, name.upper())[content] == name.upper()


def test_the_preferred_name_is_taken() -> None:
    assert found("url", "jpg", "title", "caption") == {"image": "jpg", "text": "caption"}
    assert found("file_name", "Image", "image", "text") == {"image": "Image", "text": "text"}


def test_given_columns_are_read_and_required_ones_are_added() -> None:
    names = ("image", "photo", "text", "label", "score")
    assert found(*names, image="photo") == {"image": "photo", "text": "text"}
    assert found(*names, label="score") == {"image": "image", "text": "text", "label": "score"}
    assert found(*names, task="image-to-image", image="photo") == {"image": "photo", "label": "label"}


@pytest.mark.parametrize(
    ("names", "columns", "expected"),
    [
        (
            ("foto", "titel"),
            {},
            r"a column image or .*Got foto, titel in 'x.csv'.*columns=\{'image': 'foto', 'text': 'ti",
        ),
        (("id", "text"), {}, r"columns=\{'image': 'id', 'text': 'text'\}"),
        (("image",), {}, r"a column text or caption .*columns=\{'image': 'image', 'text': '...'\}"),
        (
            ("image", "text"),
            {"image": "photo"},
            r"columns\['image'\] must be a column of 'x.csv'. Got 'photo', but its c",
        ),
        (("image", "text", "text"), {}, "column 'text' must be in 'x.csv' once. Got image, text, text. Rename one"),
        (("a", "text", "a"), {"image": "a"}, "column 'a' must be in 'x.csv' once"),
        ((), {}, "Got none in 'x.csv'"),
    ],
)
def test_names_that_do_not_tell_are_refused(names: tuple[str, ...], columns: dict[str, str], expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        found(*names, **columns)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["image", "text"], r"columns must be a dict such as .* Got \['image', 'text'\]"),
        ({}, "columns must be a dict such as"),
        ({"picture": "x"}, "columns must have keys among image, text, label, score, language, negative. Got 'picture'"),
        ({"image": 3}, r"columns\['image'\] must be the name of a column. Got 3"),
        ({"image": " "}, "must be the name of a column"),
        ({"image": ["a", "b"]}, r"columns\['image'\] must be the name of a column. Got \['a', 'b'\]"),
        ({"text": []}, r"columns\['text'\] must be the name of a column or a list of at most 100 names. Got \[\]"),
        ({"text": ["a", 3]}, r"Got \['a', 3\]"),
        ({"text": [f"{number}" for number in range(101)]}, "a list of at most 100 names"),
    ],
)
def test_invalid_values_of_columns_are_refused(columns: Any, expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        checked_columns(columns)


def test_values_of_columns_are_kept() -> None:
    assert checked_columns(None) is None
    assert checked_columns({"image": " photo "}) == {"image": ("photo",)}
    several = {"text": ["en", " de ", "en"], "image": "photo"}
    assert checked_columns(several) == {"text": ("en", "de"), "image": ("photo",)}
    assert checked_columns(checked_columns(several)) == checked_columns(several)


def test_images_have_no_score() -> None:
    names = ("image", "label", "score")
    assert found(*names, task="image-to-image") == {"image": "image", "label": "label"}
    with pytest.raises(
        InvalidInput, match=r"columns\['score'\] is for pairs. Got 'score' for image-to-image. Leave it o"
    ):
        found(*names, task="image-to-image", score="score")


def test_only_columns_that_nobody_named_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "finetuner")
    names, columns = ("image", "text", "id"), {"image": ("image",), "text": ("text",)}
    say_columns(columns, names, columns, "'x.csv'")
    assert not caplog.messages
    say_columns(columns, names, None, "'x.csv'")
    assert caplog.messages == ["'x.csv': image is column 'image', text is column 'text'; not read: id"]


def test_names_in_messages_are_short_and_printable() -> None:
    assert shown(["", "a\nb", "x" * 90]) == f"'', 'a\\nb', '{'x' * 39}"
    assert shown([str(number) for number in range(30)]).endswith("18, 19, ...")


def test_the_documentation_has_every_well_known_name() -> None:
    page = (Path(__file__).parents[4] / "docs/data.md").read_text()
    for content, names in WELL_KNOWN.items():
        assert f"| `{content}` | {', '.join(f'`{name}`' for name in names)} |" in page
