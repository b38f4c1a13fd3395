"""The backbone table, and the search for a name in it. A new backbone is one row and one test.

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
from .stand_ins import stand_in, stand_in_rows

REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)  # in timm's sources
WIDTH = 220  # columns of the printed table
CLIP_MINI_FOLDER = Path(__file__).parent / "clip_mini"


RESULTS = "open_clip, docs/openclip_results.csv"  # at its commit f862f86


def _image(name: str, architecture: str, tag: str, output_dim: int, description: str, size_gb: float) -> Backbone:
    row = image_backbone(name, architecture, tag, output_dim, description)
    alias, source = architecture.removeprefix("tf_"), f"timm/{architecture}.{tag}"
    return replace(row, aliases=(alias,), licence="Apache-2.0", size_gb=size_gb, source=source)


IMPORTED = Backbone("imported-clip", "", "", description="A CLIP of another library, see `imports`")
IMPORTED_SIGLIP = replace(
    IMPORTED,
    name="imported-siglip",
    loss="SigLIPLoss",
    description="A SigLIP of transformers or open_clip, see `imports`",
)
PARTS = Backbone("clip-from-parts", "", "", learning_rate=5e-4, description="A CLIP from two towers, see `imports`")
IMPORTED_IMAGE = "imported-image"
"""IMPORTED, IMPORTED_SIGLIP, PARTS and IMPORTED_IMAGE::ARCH are the backbones of imported artifacts. They have no
weights of their own."""
ROWS = (
    Backbone(
        "clip-mini",
        "clip-mini",
        "",
        output_dim=128,
        learning_rate=5e-4,
        folder=CLIP_MINI_FOLDER,
        licence="Apache-2.0",
        description="Miniature CLIP, English and German, ships with the package",
        size_gb=0.02,
        languages="English, German",
        source="package",
    ),
    Backbone(
        "clip-base-en",
        "ViT-B-32",
        "openai",
        aliases=("openai/clip-vit-base-patch32",),
        output_dim=512,
        licence="MIT",
        description="CLIP ViT-B/32 by OpenAI, English",
        size_gb=0.61,
        languages="English",
        source="timm/vit_base_patch32_clip_224.openai",
        zero_shot=0.6332,
        zero_shot_source=RESULTS,
    ),
    Backbone(
        "clip-large-en",
        "ViT-L-14",
        "openai",
        aliases=("openai/clip-vit-large-patch14",),
        output_dim=768,
        licence="MIT",
        description="CLIP ViT-L/14 by OpenAI, English",
        size_gb=1.71,
        languages="English",
        source="timm/vit_large_patch14_clip_224.openai",
        zero_shot=0.7554,
        zero_shot_source=RESULTS,
    ),
    Backbone(
        "clip-base-multi",
        "xlm-roberta-base-ViT-B-32",
        "laion5b_s13b_b90k",
        aliases=("xlm-roberta-base-ViT-B-32::laion5b_s13b_b90k", "xlm-roberta-base-ViT-B-32#laion5b_s13b_b90k"),
        output_dim=512,
        licence="MIT",
        description="CLIP ViT-B/32 with XLM-RoBERTa by LAION, about 100 languages",
        size_gb=1.46,
        languages="about 100",
        source="laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
        zero_shot=0.6236,
        zero_shot_source=RESULTS,
    ),
    Backbone(
        "siglip-base",
        "ViT-B-16-SigLIP",
        "webli",
        output_dim=768,
        loss="SigLIPLoss",
        licence="Apache-2.0",
        description="SigLIP ViT-B/16 by Google, English",
        size_gb=0.81,
        languages="English",
        source="timm/ViT-B-16-SigLIP",
        zero_shot=0.7604,
        zero_shot_source=RESULTS,
    ),
    Backbone(
        "siglip2-base",
        "ViT-B-16-SigLIP2",
        "webli",
        output_dim=768,
        loss="SigLIPLoss",
        licence="Apache-2.0",
        description="SigLIP 2 ViT-B/16 by Google, many languages",
        size_gb=1.5,
        languages="many",
        source="timm/ViT-B-16-SigLIP2",
    ),
    Backbone(
        "siglip2-so400m",
        "ViT-SO400M-16-SigLIP2-384",
        "webli",
        output_dim=1152,
        loss="SigLIPLoss",
        licence="Apache-2.0",
        description="SigLIP 2 SO400M/16 for 384 pixels by Google, many languages",
        size_gb=4.54,
        languages="many",
        source="timm/ViT-SO400M-16-SigLIP2-384",
    ),
    Backbone(
        "eva02-base",
        "EVA02-B-16",
        "merged2b_s8b_b131k",
        output_dim=512,
        licence="MIT",
        description="EVA02-CLIP ViT-B/16 by BAAI, English",
        size_gb=0.6,
        languages="English",
        source="timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k",
        zero_shot=0.7472,
        zero_shot_source=RESULTS,
    ),
    Backbone(
        "eva02-large",
        "EVA02-L-14",
        "merged2b_s4b_b131k",
        output_dim=768,
        licence="MIT",
        description="EVA02-CLIP ViT-L/14 by BAAI, English",
        size_gb=1.71,
        languages="English",
        source="timm/eva02_large_patch14_clip_224.merged2b_s4b_b131k",
        zero_shot=0.7977,
        zero_shot_source=RESULTS,
    ),
    Backbone(
        "metaclip2-huge",
        "ViT-H-14-worldwide-quickgelu",
        "metaclip2_worldwide",
        output_dim=1024,
        licence="CC-BY-NC-4.0",
        description="MetaCLIP 2 ViT-H/14 by Meta, many languages, not for commercial use",
        size_gb=7.43,
        languages="many",
        source="timm/vit_huge_patch14_clip_224.metaclip2_worldwide",
    ),
    _image("resnet-base", "resnet50", "a1_in1k", 2048, "ResNet-50, ImageNet", 0.09),
    _image("resnet-large", "resnet152", "a1_in1k", 2048, "ResNet-152, ImageNet", 0.23),
    _image("efficientnet-base", "efficientnet_b4", "ra2_in1k", 1792, "EfficientNet-B4, ImageNet", 0.07),
    _image("efficientnet-large", "tf_efficientnet_b7", "ra_in1k", 2560, "EfficientNet-B7, ImageNet", 0.26),
    _image("efficientnet-small", "efficientnet_b0", "ra_in1k", 1280, "EfficientNet-B0, ImageNet", 0.02),
)


# Text, mesh and vector backbones of the old package. They are outside the mission of CLIP and vision.
OTHER_MISSIONS = (
    "bert-base-en", "bert-base-cased", "bert-base-multi", "bert-base-multilingual-cased", "sbert-base-en",
    "sentence-transformers/msmarco-distilbert-base-v3", "distiluse-base-multi",
    "distiluse-base-multilingual-cased-v2", "jina-embedding-t-en-v1", "jina-embedding-s-en-v1",
    "jina-embedding-b-en-v1", "jina-embedding-l-en-v1", "pointnet-base", "pointnet++", "mlp",
)  # fmt: skip


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
        NoSuchModel: a backbone outside the mission, or unknown weights of timm.
    """
    name, rows = (
        stand_in(name),
        (*ROWS, IMPORTED, IMPORTED_SIGLIP, PARTS, *stand_in_rows()),
    )  # both change something in tests alone
    for row in rows:
        if name == row.name or name in row.aliases:
            return row
    if name in OTHER_MISSIONS:
        raise NoSuchModel(
            f"model must be for CLIP or images. Got {name!r}, a text, mesh or vector backbone. "
            f"Choose one of {', '.join(list_models())}, or ARCH::TAG."
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
