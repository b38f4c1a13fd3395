"""The benchmark table: rows of measured figures, stored in benchmark.json and rendered as benchmark.md."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..evaluation.pairs import RECALLS, image_to_text, text_to_image
from ..exceptions import InvalidInput, NoSuchModel
from ..metrics import NINE
from ..models.backbone import Backbone
from ..models.backbones import find_backbone
from .sets import SETS

JSON, MARKDOWN = "benchmark.json", "benchmark.md"
ZERO_SHOT, TUNED = "zero-shot", "tuned"
TITLES = {row.name: row.title for row in SETS}
BOTH = (text_to_image(5), image_to_text(5))

# (set, architecture, prefix of the pretrained tag) -> goals of a tuned model, by metric; docs/benchmark-sets.md.
GOALS: dict[tuple[str, str, str], dict[str, float]] = {
    ("flickr8k", "ViT-B-32", "openai"): dict(zip(BOTH, (0.88, 0.94), strict=True)),
    ("flickr30k", "ViT-B-32", "openai"): dict(zip(BOTH, (0.91, 0.96), strict=True)),
    ("coco", "ViT-B-32", "openai"): dict(zip(BOTH, (0.73, 0.83), strict=True)),
    ("flickr8k", "ViT-B-32-quickgelu", "laion400m"): dict(zip(BOTH, (0.88, 0.94), strict=True)),
    ("flickr30k", "ViT-B-32-quickgelu", "laion400m"): dict(zip(BOTH, (0.905, 0.955), strict=True)),
    ("coco", "ViT-B-32-quickgelu", "laion400m"): dict(zip(BOTH, (0.735, 0.83), strict=True)),
    ("flickr8k", "ViT-B-16-plus-240", ""): dict(zip(BOTH, (0.91, 0.96), strict=True)),
    ("flickr30k", "ViT-B-16-plus-240", ""): dict(zip(BOTH, (0.94, 0.98), strict=True)),
    ("coco", "ViT-B-16-plus-240", ""): dict(zip(BOTH, (0.77, 0.87), strict=True)),
    ("fashion12k", "xlm-roberta-base-ViT-B-32", ""): {"hit_at_k": 0.85, "reciprocal_rank": 0.48},
    ("ukbench", "resnet50", ""): {"recall_at_k": 0.98},
}


@dataclass(frozen=True)
class Row:
    """Figures of one model on one split of one set."""

    set: str
    """Name of the set."""
    split: str
    """Split of the set."""
    model: str
    """The backbone's name."""
    stage: str
    """ZERO_SHOT or TUNED."""
    artifact: str
    """Id of the tuned model. '' for zero-shot."""
    images: int
    """Number of distinct images scored."""
    published_images: int
    """Number of images in the published split. 0 if unknown."""
    texts: int
    """Number of captions scored. 0 for an image model."""
    limit: int
    """k of the nine metrics."""
    metrics: dict[str, float]
    """Metrics by plain name: the nine, the textbook's, and recall at 1, 5 and 10 in both directions."""
    command: str
    """Command that produced the figures."""
    versions: dict[str, str]
    """Package -> version."""
    commit: str
    """Git commit of the code. '' outside a checkout."""
    device: str
    """Device that computed the figures."""
    date: str
    """ISO 8601, UTC."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Identity of the row. A new row replaces an old one with the same key."""
        return self.set, self.split, self.model, self.stage


def goal_of(set_name: str, backbone: Backbone) -> dict[str, float]:
    """Return the goals of a tuned model on a set, by metric. Empty if there are none."""
    for (name, architecture, tag), goal in GOALS.items():
        if (name, architecture) == (set_name, backbone.architecture) and backbone.pretrained.startswith(tag):
            return goal
    return {}


def add_row(folder: Path, row: Row) -> list[Row]:
    """Add a row to the table in a folder, or replace the one with its key, and write both files.

    Args:
        folder: created if missing.
        row: to add.

    Returns:
        All rows, by set, split and model, zero-shot before tuned.

    Raises:
        InvalidInput: benchmark.json is not a benchmark table.
    """
    rows = sorted([old for old in read_rows(folder) if old.key != row.key] + [row], key=_order)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / JSON, json.dumps({"rows": [asdict(one) for one in rows]}, indent=1) + "\n")
    _write(folder / MARKDOWN, markdown(rows))
    return rows


def read_rows(folder: Path) -> list[Row]:
    """Return the rows of the table in a folder. Empty if there is no table.

    Raises:
        InvalidInput: benchmark.json is not a benchmark table.
    """
    path = folder / JSON
    try:
        rows = [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
        markdown(sorted(rows, key=_order))  # a table that cannot be rendered is invalid
        return rows
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"{path} must be a benchmark table. Got another file. Choose another --output.") from error


def _order(row: Row) -> tuple[int, str, str, bool]:
    names = list(TITLES)
    return names.index(row.set) if row.set in names else len(names), row.split, row.model, row.stage == TUNED


def _write(path: Path, content: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(content, encoding="utf-8")
    os.replace(temporary, path)


def markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown: recall in both directions with the goals, the nine metrics, the commands."""
    recalls = [
        [_figure(row.metrics, name(k)) for name in (text_to_image, image_to_text) for k in RECALLS] for row in rows
    ]
    nine = [metric.__name__ for metric in NINE]
    parts = [
        "# Benchmarks",
        "Recall as CLIP_benchmark defines it: any caption of an image counts. A goal is what a tuned model should "
        "reach. The commands below measured all other figures.",
        _table(
            ["set", "split", "images", "texts", "model", "stage"]
            + [f"{side} R@{k}" for side in ("image retrieval", "text retrieval") for k in RECALLS]
            + ["goal"],
            [[*_names(row), *recall, _goal(row)] for row, recall in zip(rows, recalls, strict=True)],
        ),
        "## The nine metrics",
        "Text to image, or image to image, over the first k, by DocArray v1's definitions.",
        _table(
            ["set", "model", "stage", "k", *nine],
            [
                [_title(row), row.model, row.stage, str(row.limit), *(_figure(row.metrics, name) for name in nine)]
                for row in rows
            ],
        ),
        "## Commands",
        "\n".join(_command(row) for row in rows),
    ]
    return "\n\n".join(parts) + "\n"


def _names(row: Row) -> list[str]:
    whole = row.published_images in (0, row.images)
    images = f"{row.images:,}" if whole else f"{row.images:,} of {row.published_images:,}"
    return [_title(row), row.split, images, f"{row.texts:,}" if row.texts else "", row.model, row.stage]


def _title(row: Row) -> str:
    return TITLES.get(row.set, row.set)


def _goal(row: Row) -> str:
    try:
        goal = goal_of(row.set, find_backbone(row.model))
    except NoSuchModel:  # another installation wrote the table
        goal = {}
    names = {text_to_image(5): "image R@5", image_to_text(5): "text R@5"}
    return ", ".join(f"{names.get(name, name)} {value:.3f}" for name, value in goal.items())


def _figure(metrics: Mapping[str, Any], name: str) -> str:
    return f"{metrics[name]:.3f}" if name in metrics else ""


def _command(row: Row) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in row.versions.items())
    tuned = f" (artifact {row.artifact})" if row.artifact else ""
    return (
        f"* {_title(row)}, {row.split}, {row.model}, {row.stage}{tuned}: `{row.command}`; {row.date}; {row.device}; "
        f"commit {row.commit or 'none'}; {versions}"
    )


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
