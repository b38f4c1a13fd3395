"""The report page of the demo: well-formed, self-contained, and safe from texts of users."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from finetuner.demo.report import Example, Thumbnail, write_report

VOID = {"meta", "img", "line", "polyline", "br", "input", "link"}
METRICS = {"before": {"recall": 0.25, "same <b>": 0.5}, "after": {"recall": 0.75, "same <b>": 0.5}}
SUMMARY: dict[str, Any] = {
    "artifact_id": "0123456789abcdef01234567",
    "model": "clip-mini",
    "train_pairs": 10,
    "test_images": 4,
    "chance_recall_at_5": 0.125,
    "languages": {"en": {"before": 0.25, "after": 0.75}, "de": {"before": 0.2, "after": 0.6}},
    "seconds": {"fit": 12.4, "total": 20.0},
}


class Page(HTMLParser):
    """Collects elements and checks that each one is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def written(path: Path, examples: list[Example], **changes: Any) -> str:
    arguments: dict[str, Any] = {
        "metrics": METRICS,
        "curve": [{"step": 1, "loss": 2.0}, {"step": 10, "loss": 0.5}],
        "summary": SUMMARY,
    }
    write_report(path / "report.html", examples, **arguments | changes)
    return (path / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def examples(jpeg: Callable[[int], bytes]) -> list[Example]:
    before = [Thumbnail(jpeg(number), 0.5 - number / 10, number == 2) for number in range(3)]
    after = [Thumbnail(jpeg(number), 0.9 - number / 10, number < 2) for number in range(3)]
    return [Example('<script>alert("1")</script> & Maß', "de", before, after)]


def test_the_page_is_well_formed_and_self_contained(tmp_path: Path, examples: list[Example]) -> None:
    text = written(tmp_path, examples)
    page = Page(text)
    assert page.open == []
    assert text.startswith("<!doctype html>")
    assert not page.all("script")
    assert not page.all("link")
    sources = [attributes.get("src") or "" for attributes in page.all("img")]
    assert len(sources) == 6
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert base64.b64decode(sources[0].partition(",")[2]) == examples[0].before[0].jpeg
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import|https?://", text)


def test_texts_of_users_are_escaped(tmp_path: Path, examples: list[Example]) -> None:
    text = written(tmp_path, examples, summary=SUMMARY | {"model": "<i>", "artifact_id": "</p>"})
    assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; Maß" in text
    assert "same &lt;b&gt;" in text
    assert "<i>" not in text
    assert Page(text).open == []


def test_relevant_images_are_framed(tmp_path: Path, examples: list[Example]) -> None:
    kinds = [attributes["class"] for attributes in Page(written(tmp_path, examples)).all("figure")]
    assert kinds == [*["irrelevant"] * 2, *["relevant"] * 3, "irrelevant"]


def test_the_page_has_the_metrics(tmp_path: Path, examples: list[Example]) -> None:
    text = written(tmp_path, examples)
    for expected in ("0.250 → 0.750", "0.200 → 0.600", "by chance 0.125", "+0.5000", "+0.0000", "fit 12 s", "step 10"):
        assert expected in text


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([], "The run reported no steps"),
        ([{"step": 0, "loss": 0.0}], "<polyline"),
        ([{"step": 1, "loss": 1.0}], "1.00"),
    ],
)
def test_a_short_curve_is_drawn(tmp_path: Path, curve: list[dict[str, Any]], expected: str) -> None:
    text = written(tmp_path, [], curve=curve)
    assert expected in text
    assert Page(text).open == []
