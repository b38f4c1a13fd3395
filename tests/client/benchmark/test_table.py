"""The files and goals of the benchmark table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from finetuner.benchmark.sets import SETS
from finetuner.benchmark.table import GOALS, Row, add_row, goal_of, markdown, read_rows
from finetuner.exceptions import InvalidInput
from finetuner.metrics import NINE
from finetuner.models.backbones import find_backbone

RECALL = "text_to_image_recall_at_5"


def row(**change: Any) -> Row:
    values: dict[str, Any] = {
        "set": "flickr8k",
        "split": "test",
        "model": "clip-base-en",
        "stage": "zero-shot",
        "artifact": "",
        "images": 1000,
        "published_images": 1000,
        "texts": 5000,
        "limit": 20,
        "metrics": {RECALL: 0.8051, "precision_at_k": 0.0461},
        "command": "finetuner benchmark flickr8k . --model a|b",
        "versions": {"torch": "2.13.0"},
        "commit": "",
        "device": "cpu: x86_64",
        "date": "2026-11-20T00:00:00+00:00",
    }
    return Row(**values | change)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = add_row(tmp_path / "new", row())
    assert read_rows(tmp_path / "new") == rows == [row()]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["benchmark.json", "benchmark.md"]
    assert read_rows(tmp_path) == []


@pytest.mark.parametrize("change", [{"metrics": {RECALL: "0.8"}}, {"texts": "5"}, {"metrics": 3}, {"set": 3}, {"x": 1}])
def test_a_row_of_other_types_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    add_row(tmp_path, row())
    (content,) = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    (tmp_path / "benchmark.json").write_text(json.dumps({"rows": [content | change]}))
    with pytest.raises(InvalidInput, match=r"must be a benchmark table"):
        add_row(tmp_path, row())


def test_a_missing_figure_is_an_empty_cell() -> None:
    lines = markdown([row()]).splitlines()
    head = next(line for line in lines if "image retrieval R@1 " in line).split("|")
    cells = dict(
        zip(head, next(line for line in lines if line.startswith("| Flickr8k | test")).split("|"), strict=True)
    )
    assert cells[" image retrieval R@5 "].strip() == "0.805"
    assert cells[" image retrieval R@1 "].strip() == cells[" text retrieval R@5 "].strip() == ""
    assert cells[" goal "].strip() == "image R@5 0.880, text R@5 0.940"


def test_the_nine_metrics_have_their_own_table() -> None:
    lines = markdown([row()]).splitlines()
    head = next(line for line in lines if "precision_at_k" in line)
    assert re.findall(r"\w+", head)[4:] == [metric.__name__ for metric in NINE]
    assert any(line.startswith("| Flickr8k | clip-base-en | zero-shot | 20 | 0.046 |") for line in lines)


@pytest.mark.parametrize(
    ("set_name", "model", "expected"),
    [
        ("flickr8k", "ViT-B-32::openai", {RECALL: 0.88, "image_to_text_recall_at_5": 0.94}),
        ("flickr8k", "ViT-B-32::laion2b_e16", {}),
        ("coco", "ViT-B-32-quickgelu::laion400m_e32", {RECALL: 0.735, "image_to_text_recall_at_5": 0.83}),
        ("flickr30k", "ViT-B-16-plus-240::laion400m_e31", {RECALL: 0.94, "image_to_text_recall_at_5": 0.98}),
        ("ukbench", "resnet50", {"recall_at_k": 0.98}),
        ("ukbench", "resnet152", {}),
        ("flickr8k", "clip-mini", {}),
    ],
)
def test_goals_belong_to_their_models(set_name: str, model: str, expected: dict[str, float]) -> None:
    assert goal_of(set_name, find_backbone(model)) == expected


def test_goals_are_for_existing_sets() -> None:
    assert {name for name, _, _ in GOALS} <= {one.name for one in SETS}
