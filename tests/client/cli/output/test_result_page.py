"""Matches as text, and on the page of `finetuner search --html`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from docarray import Document

from finetuner.cli.output.matches import caption, score, tags
from finetuner.cli.output.result_page import write_page


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (Document(text="a red dress", uri="x.jpg"), "a red dress"),
        (Document(chunks=[Document(text="a dress"), Document(blob=b"x"), Document(text="red")]), "a dress | red"),
        (Document(blob=b"x", tags={"caption": "a red dress"}), "a red dress"),
        (Document(blob=b"x", uri="https://shop.example/a/dress.jpg"), "dress.jpg"),
        (Document(blob=b"x", uri="data:image/png;base64,AA", tags={"caption": 5}), "(image)"),
    ],
)
def test_a_caption_is_the_best_text_there_is(document: Document, text: str) -> None:
    assert caption(document) == text


def test_tags_are_the_documents_own() -> None:
    document = Document(tags={"price": 45, "brand": "A", "caption": "c", "finetuner_artifact": "live", "rate": 0.25})
    assert tags(document) == "price=45, brand=A, rate=0.25"
    assert tags(Document(tags={"n": 1234567.5, "l": [1, "a"]})).startswith("n=1234567.5, l=[1")
    assert tags(Document()) == ""


def test_the_page_shows_thumbnails_and_escapes_the_rest(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    attack = "<script>alert(1)</script>\"'"
    matches = [
        Document(id=attack, text=attack, blob=jpeg(1), tags={attack: attack}),
        Document(id="svg", blob=b"<svg onload=alert(1)>", uri="https://elsewhere.example/x.jpg"),
        Document(id="pair", chunks=[Document(text="in a chunk"), Document(blob=jpeg(2))]),
    ]
    for number, match in enumerate(matches):
        match.scores["cosine"].value = 0.5 - number / 10
    write_page(tmp_path / "page.html", attack, attack, matches)
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "svg onload" not in page
    assert "https://" not in page
    assert page.count('src="data:image/jpeg;base64,') == page.count("<img") == 2
    assert page.index("0.500") < page.index("0.400 x.jpg") < page.index("0.300 in a chunk")
    assert score(matches[1]) == pytest.approx(0.4)
