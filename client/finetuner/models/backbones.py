"""The backbone table: models as rows. A new backbone is one row and one test.

`ARCH::TAG` and `ARCH::CHECKPOINT` make a row on the spot, for every architecture that open_clip or timm lists;
timm's name alone, with or without its `.TAG`, does so, too. A name of both means open_clip's before `::`, else timm's.
Nothing here imports torch, but for names that only timm can know; `clip.py` and `image_weights.py` load a row.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
from dataclasses import dataclass, replace
from pathlib import Path

from ..contract.environment import STAND_INS
from ..exceptions import InvalidInput, NoSuchModel

CLIP_MINI_FOLDER = Path(__file__).parent / "clip_mini"


@dataclass(frozen=True)
class Backbone:
    """One model that can be tuned and served."""

    name: str
    """What users write and see."""
    architecture: str
    """open_clip's name of the architecture, or timm's for a model of images."""
    pretrained: str
    """open_clip's or timm's tag, a checkpoint file (.safetensors or .pt), or '' where `folder` is set."""
    aliases: tuple[str, ...] = ()
    """Other names that mean this row; older generations of scripts use them."""
    task: str = "text-to-image"
    """What it is for."""
    output_dim: int = 0
    """Embedding size; 0 where only the loaded model tells."""
    learning_rate: float = 1e-6
    """Peak learning rate where the caller gives none; RECIPES: small for a large pretrained model."""
    batch_size: int = 128
    """Pairs a step where the caller gives none."""
    folder: Path | None = None
    """An open_clip model folder (config, weights, tokenizer) that ships with the package."""
    licence: str = ""
    """Of the weights."""
    description: str = ""
    """One line for `describe_models`."""


IMAGE_TASK = "image-to-image"


def _image(name: str, architecture: str, tag: str, output_dim: int, description: str) -> Backbone:
    """Return the row of a model of images; `architecture` and `tag` are timm's."""
    return Backbone(
        name,
        architecture,
        tag,
        aliases=(architecture.removeprefix("tf_"),),
        task=IMAGE_TASK,
        output_dim=output_dim,
        learning_rate=1e-4,
        licence="Apache-2.0",
        description=description,
    )


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
    ),
    Backbone(
        "clip-base-en",
        "ViT-B-32",
        "openai",
        aliases=("openai/clip-vit-base-patch32",),
        output_dim=512,
        licence="MIT",
        description="CLIP ViT-B/32 by OpenAI, English",
    ),
    Backbone(
        "clip-large-en",
        "ViT-L-14",
        "openai",
        aliases=("openai/clip-vit-large-patch14",),
        output_dim=768,
        licence="MIT",
        description="CLIP ViT-L/14 by OpenAI, English",
    ),
    Backbone(
        "clip-base-multi",
        "xlm-roberta-base-ViT-B-32",
        "laion5b_s13b_b90k",
        aliases=("xlm-roberta-base-ViT-B-32::laion5b_s13b_b90k", "xlm-roberta-base-ViT-B-32#laion5b_s13b_b90k"),
        output_dim=512,
        licence="MIT",
        description="CLIP ViT-B/32 with XLM-RoBERTa by LAION, about 100 languages",
    ),
    _image("resnet-base", "resnet50", "a1_in1k", 2048, "ResNet-50, ImageNet"),
    _image("resnet-large", "resnet152", "a1_in1k", 2048, "ResNet-152, ImageNet"),
    _image("efficientnet-base", "efficientnet_b4", "ra2_in1k", 1792, "EfficientNet-B4, ImageNet"),
    _image("efficientnet-large", "tf_efficientnet_b7", "ra_in1k", 2560, "EfficientNet-B7, ImageNet"),
    _image("efficientnet-small", "efficientnet_b0", "ra_in1k", 1280, "EfficientNet-B0, ImageNet"),
)


# Of the old package: names of text, mesh and vector backbones, which are outside of the CLIP and vision mission.
OTHER_MISSIONS = (
    "bert-base-en", "bert-base-cased", "bert-base-multi", "bert-base-multilingual-cased", "sbert-base-en",
    "sentence-transformers/msmarco-distilbert-base-v3", "distiluse-base-multi",
    "distiluse-base-multilingual-cased-v2", "jina-embedding-t-en-v1", "jina-embedding-s-en-v1",
    "jina-embedding-b-en-v1", "jina-embedding-l-en-v1", "pointnet-base", "pointnet++", "mlp",
)  # fmt: skip


# Known only where STAND_INS is set: a small network of random weights, seed 0, so that tests need no download.
TEST_ROWS = (_image("resnet-mini-random", "test_resnet", "random", 96, "For tests only"),)


def list_models() -> list[str]:
    """Return the names of the table's rows."""
    return [row.name for row in ROWS]


def list_model_options() -> dict[str, list[dict[str, str]]]:
    """Return the options that `model_options` takes for each model; none has any yet."""
    return {name: [] for name in list_models()}


def describe_models(task: str | None = None) -> None:
    """Print a table of the models.

    Args:
        task: only those for this task, such as 'text-to-image'.

    Raises:
        InvalidInput: no model is for that task.
    """
    from rich.console import Console
    from rich.table import Table

    rows = [row for row in ROWS if task in (None, row.task)]
    if not rows:
        tasks = ", ".join(sorted({row.task for row in ROWS}))
        raise InvalidInput(f"task must be one of: {tasks}. Got {task!r}.")
    table = Table("name", "task", "output_dim", "architecture", "description", title="Finetuner backbones")
    for row in rows:
        table.add_row(row.name, row.task, str(row.output_dim), row.architecture, row.description)
    Console().print(table)


def architectures() -> list[str]:
    """Return open_clip's architectures, without importing it; empty where it is not installed."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        return []
    return sorted(path.stem for path in (Path(spec.origin).parent / "model_configs").glob("*.json"))


def find_backbone(name: str) -> Backbone:
    """Return the row for a name, an alias, `ARCH::TAG`, `ARCH#TAG` or `ARCH::CHECKPOINT`.

    Raises:
        NoSuchModel: the message names the nearest names and the call that lists them all.
    """
    name = _stand_in(name)
    rows: tuple[Backbone, ...] = (*ROWS, *(TEST_ROWS if os.environ.get(STAND_INS) else ()))
    for row in rows:
        if name == row.name or name in row.aliases:
            return row
    if name in OTHER_MISSIONS:
        raise NoSuchModel(
            f"{name} is a text, mesh or vector backbone, and this project is for CLIP and images. "
            f"There is: {', '.join(list_models())} and ARCH::TAG."
        )
    architecture, separator, pretrained = name.partition("::" if "::" in name else "#")
    if separator and pretrained:
        for row in rows:
            if row.task == IMAGE_TASK and architecture in (row.name, row.architecture, *row.aliases):
                return replace(row, name=f"{architecture}::{pretrained}", pretrained=pretrained, aliases=())
        known = architectures()
        if not known or architecture in known:
            return Backbone(f"{architecture}::{pretrained}", architecture, pretrained)
        if architecture in (of_images := image_architectures()):
            return _image_row(f"{architecture}::{pretrained}", architecture, pretrained)
        raise NoSuchModel(
            f"architecture must be one that open_clip or timm lists. Got {architecture!r}. "
            f"Nearest: {_nearest(architecture, [*known, *of_images])}. See open_clip.list_models()."
        )
    return _timm_row(name)


def image_architectures() -> list[str]:
    """Return timm's architectures, which takes its import; empty where it is not installed."""
    if importlib.util.find_spec("timm") is None:
        return []
    import timm

    names: list[str] = timm.list_models()
    return names


def _image_row(name: str, architecture: str, tag: str) -> Backbone:
    return replace(_image(name, architecture, tag, 0, ""), aliases=())


def _timm_row(name: str) -> Backbone:
    """Return the row of timm's name of an architecture, whose own choice of weights it takes, or of ARCH.TAG.

    Raises:
        NoSuchModel: no such name, or weights that timm does not have.
    """
    of_images = image_architectures()
    architecture, _, tag = name.partition(".")
    if architecture not in of_images:
        names = [*list_models(), *(alias for row in ROWS for alias in row.aliases), *of_images]
        raise NoSuchModel(
            f"model must be one of {', '.join(list_models())}, a name of timm's, ARCH::TAG or ARCH::CHECKPOINT. "
            f"Got {name!r}. Nearest: {_nearest(name, names)}. See finetuner.list_models()."
        )
    from timm.models import list_pretrained

    full = list_pretrained(f"{architecture}.*")
    tags = [entry.removeprefix(f"{architecture}.") for entry in full]
    tag = tag or _default_tag(architecture)
    if tag not in tags:
        raise NoSuchModel(
            f"weights of {architecture} must have a tag ({', '.join(tags) or 'none'}) or be a file. Got {name!r}. "
            f"Give {architecture}::TAG or {architecture}::FILE."
        )
    return _image_row(name, architecture, tag)


def _default_tag(architecture: str) -> str:
    from timm.models import get_pretrained_cfg

    settings = get_pretrained_cfg(architecture)
    return (settings.tag if settings is not None else None) or ""


def _stand_in(name: str) -> str:
    """Return the model that stands in for another one where tests set it: $FINETUNER_STAND_INS is 'NAME=MODEL,...'."""
    stand_ins = dict(entry.split("=", 1) for entry in os.environ.get(STAND_INS, "").split(",") if "=" in entry)
    return stand_ins.get(name, name)


def _nearest(name: str, known: list[str]) -> str:
    return ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.3)) or "none"
