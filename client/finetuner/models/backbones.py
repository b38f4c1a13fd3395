"""The search for a name in the backbone table, see `rows`.

A name outside the table also makes a row: `ARCH::TAG` or `ARCH::CHECKPOINT` for every architecture of open_clip or
timm, and timm's own names, with or without `.TAG`. Before `::`, a name that both libraries have means open_clip's.
Elsewhere it means timm's.

This module never imports torch, except for the weights of timm's names. `model_kinds.load_row` loads a row.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from ..exceptions import InvalidInput, NoSuchModel
from .backbone import IMAGE_TASK, Backbone, image_backbone
from .image_model import MODEL_OPTIONS
from .rows import ELSEWHERE, IMPORTED, IMPORTED_IMAGE, IMPORTED_SIGLIP, OTHER_MISSIONS, PARTS, ROWS
from .stand_ins import stand_in, stand_in_rows

REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)  # in timm's sources
WIDTH = 220  # columns of the printed table


def list_models() -> list[str]:
    """Return the names of the table's rows."""
    return [row.name for row in ROWS]


def list_model_options() -> dict[str, list[dict[str, str]]]:
    """Return the options that `model_options` accepts, by model.

    Returns:
        Model name -> options, each {'name', 'type', 'default', 'description'}. A CLIP has none.
    """
    return {row.name: [dict(option) for option in MODEL_OPTIONS if row.task == IMAGE_TASK] for row in ROWS}


def describe_models(task: str | None = None) -> None:
    """Print a table of the models.

    Args:
        task: 'text-to-image' or 'image-to-image' for the models of one task. None for all.

    Raises:
        InvalidInput: unknown task.
    """
    from rich.console import Console
    from rich.table import Table

    rows = [row for row in ROWS if task in (None, row.task)]
    if not rows:
        tasks = ", ".join(sorted({row.task for row in ROWS}))
        raise InvalidInput(f"task must be one of: {tasks}. Got {task!r}.")
    columns = ("name", "task", "output_dim", "GB", "licence", "languages", "zero-shot", "architecture", "description")
    table = Table(*columns, title="Finetuner backbones")
    for row in rows:
        figures = (f"{row.size_gb:g}", row.licence, row.languages, f"{row.zero_shot:.1%}" if row.zero_shot else "")
        table.add_row(row.name, row.task, str(row.output_dim), *figures, row.architecture, row.description)
    sources = sorted({row.zero_shot_source for row in rows} - {""})
    table.caption = f"zero-shot: top 1 of ImageNet, by {', '.join(sources)}" if sources else None
    Console(width=WIDTH).print(table)


def architectures() -> list[str]:
    """Return open_clip's architectures without importing it. Empty if it is not installed."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        return []
    return sorted(path.stem for path in (Path(spec.origin).parent / "model_configs").glob("*.json"))


def find_backbone(name: str) -> Backbone:
    """Return the row for a name, an alias, `ARCH::TAG`, `ARCH#TAG` or `ARCH::CHECKPOINT`.

    Raises:
        NoSuchModel: unknown name. The message has the nearest names and the call that lists all.
    """
    row = row_of(name)
    if row is not None:
        return row
    architecture, tag = _parts(name)
    if tag:
        raise NoSuchModel(
            f"architecture must be one that open_clip or timm lists. Got {architecture!r}. "
            f"Nearest: {_nearest(architecture, [*architectures(), *image_architectures()])}. "
            "See open_clip.list_models()."
        )
    names = [*list_models(), *(alias for row in ROWS for alias in row.aliases), *image_architectures()]
    raise NoSuchModel(
        f"model must be one of {', '.join(list_models())}, a timm name, ARCH::TAG or ARCH::CHECKPOINT. "
        f"Got {name!r}. Nearest: {_nearest(name, names)}. See finetuner.list_models()."
    )


def row_of(name: str) -> Backbone | None:
    """Return the row as `find_backbone` does, but None for an unknown name: to find its nearest ones takes 30 ms.

    Raises:
        NoSuchModel: a backbone outside the mission, one whose architecture is elsewhere, or unknown weights of timm.
    """
    # both calls change something in tests alone
    name, rows = stand_in(name), (*ROWS, IMPORTED, IMPORTED_SIGLIP, PARTS, *stand_in_rows())
    for row in rows:
        if name == row.name or name in row.aliases:
            return row
    if name in OTHER_MISSIONS:
        raise NoSuchModel(
            f"model must be for CLIP or images. Got {name!r}, a text, mesh or vector backbone. "
            f"Choose one of {', '.join(list_models())}, or ARCH::TAG."
        )
    if name in ELSEWHERE:
        raise NoSuchModel(
            f"model must have an architecture that open_clip, timm or transformers has. Got {name!r}, whose "
            f"architecture is a program in its repository: it is not run. Nearest: {ELSEWHERE[name]}. See "
            f"finetuner.list_models()."
        )
    architecture, tag = _parts(name)
    if not tag:
        return _timm_row(name)
    if architecture == IMPORTED_IMAGE:
        return image_backbone(name, tag, "") if tag in image_architectures() else None
    for row in rows:
        if row.task == IMAGE_TASK and architecture in (row.name, row.architecture, *row.aliases):
            return replace(row, name=f"{architecture}::{tag}", pretrained=tag, aliases=())
    known = architectures()
    if not known or architecture in known:
        return Backbone(f"{architecture}::{tag}", architecture, tag)
    if architecture in image_architectures():
        return image_backbone(f"{architecture}::{tag}", architecture, tag)
    return None


def _parts(name: str) -> tuple[str, str]:
    """Return the architecture, and the tag or checkpoint after `::` or `#`, '' without one."""
    architecture, _, tag = name.partition("::" if "::" in name else "#")
    return architecture, tag


@cache
def image_architectures() -> frozenset[str]:
    """Return timm's architectures without importing it: 2 s and 110 MB. Empty if it is not installed."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        return frozenset()
    files = (Path(spec.origin).parent / "models").glob("*.py")
    return frozenset(name for file in files for name in REGISTERED.findall(file.read_text(encoding="utf-8")))


def _timm_row(name: str) -> Backbone | None:
    """Return the row of ARCH, with timm's default weights, or of ARCH.TAG. None for an unknown architecture.

    Raises:
        NoSuchModel: no such weights in timm.
    """
    architecture, _, tag = name.partition(".")
    if architecture not in image_architectures():
        return None
    from timm.models import list_pretrained

    full = list_pretrained(f"{architecture}.*")
    tags = [entry.removeprefix(f"{architecture}.") for entry in full]
    tag = tag or _default_tag(architecture)
    if tag not in tags:
        raise NoSuchModel(
            f"weights of {architecture} must be a tag ({', '.join(tags) or 'none'}) or a file. Got {name!r}. "
            f"Give {architecture}::TAG or {architecture}::FILE."
        )
    return image_backbone(name, architecture, tag)


def _default_tag(architecture: str) -> str:
    from timm.models import get_pretrained_cfg

    settings = get_pretrained_cfg(architecture)
    return (settings.tag if settings is not None else None) or ""


def _nearest(name: str, known: list[str]) -> str:
    return ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.3)) or "none"
