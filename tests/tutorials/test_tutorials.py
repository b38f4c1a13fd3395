"""Our own tutorials run as they are written, by the code that runs the seeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .cells import cells
from .notebook import run_cells
from .stand_ins import prepare, tutorial_flow

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
PRINTED = {
    "text_to_image": ["'status': 'FINISHED'", "clip-text-to-clip-vision_recall_at_k", ".png|/images/12"],
    "multilingual": ["48 48", "Metric: 'clip-text-to-clip-vision_precision_at_k' Value:", "(1, 128) (1, 128)"],
    "image_to_image": ["Retrieval metrics after fine-tuning", "(1, 96)", "[18, 18, 18, 18, 18, 18]", "\n(96,)\n"],
}

pytestmark = pytest.mark.usefixtures("spawned")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real Flow with stand-ins, logged in to; the address of images."""
    with tutorial_flow(tmp_path_factory.mktemp("tutorials")) as address:
        yield address


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PRINTED))
def test_every_cell_runs(name: str, images: str) -> None:
    text = (TUTORIALS / f"{name}.md").read_text()
    prepare(text)
    outcomes = list(run_cells(name, text, images))
    assert [(outcome.cell, outcome.error) for outcome in outcomes if outcome.error] == []
    printed = "".join(outcome.printed for outcome in outcomes)
    for expected in PRINTED[name]:
        assert any(form in printed for form in expected.split("|")), printed
    left_out = sum("!pip" in cell or "jcloud" in cell for cell in cells(text))
    assert len(outcomes) == len(cells(text)) - left_out


def test_the_tutorials_are_all_here() -> None:
    assert sorted(path.stem for path in TUTORIALS.glob("*.md")) == sorted(PRINTED)


def test_an_error_is_one_line_and_the_next_cell_runs() -> None:
    text = "```python\nraise ValueError('two\\nlines')\n```\n```python\nprint('next')\n```\n"
    first, second = run_cells("wrong", text, "http://127.0.0.1:9/")
    assert (first.error, second.error, second.printed) == ("ValueError: two lines", "", "next\n")
