"""The two data sets of `tuned_quality.py`: the generated catalogue, and real images of Debian's Tux Paint stamps."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from finetuner.catalogue import fashion, shapes
from finetuner.catalogue.image import CatalogueImage
from finetuner.documents.pairs import Pair
from finetuner.executors.trainer.data.image_cache import ImageCache
from finetuner.executors.trainer.data.training_data import TrainingData, prepare
from finetuner.imports.parts import read_parts
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip
from finetuner.models.clip_files import CONFIG_FILE, load_backbone, load_towers, save_towers

from .stamps import read_stamps, text_model, vision_checkpoint

VALIDATION_ITEMS = 300  # of the catalogue; its 100 by default choose a learning rate by chance
GUARD = "guard"
GUARD_IMAGES, GUARD_SEED = 400, 11  # shapes that clip-mini was not pretrained on, of the domain that it was
REPLAY = "replay"
REPLAY_IMAGES, REPLAY_SEED = 2000, 12  # others of that domain
STAMP_SIDE = 128  # pixels; EfficientNet-Lite0 reads 224, at three times the work


@dataclass(frozen=True)
class QualitySet:
    """Pairs of three splits, and the model that is tuned on them."""

    name: str
    backbone: str
    """The name of the row that RunConfig gets."""
    batch_size: int
    epochs: int
    read: Callable[[Path, str], list[Pair]]
    """Folder of the data, split -> pairs."""
    load: Callable[[Path], Clip]
    """Folder of the data -> the model before training."""
    has_guard: bool
    """Whether there are pairs of the domain that the model was pretrained on: a GUARD, and others to REPLAY."""

    def training_data(self, folder: Path, model: Clip, split: str = "train") -> TrainingData:
        """Return the train split, or REPLAY, decoded once for all runs."""
        decoded = ImageCache(folder / "decoded", 10**10)
        return prepare(self.read(folder, split), model, decoded, f"{self.name}-{split}", 1)


@cache
def _catalogue(folder: Path, split: str) -> list[Pair]:
    """Return each image with each of its captions; relevant to a caption are all images of its garment."""
    if split in (GUARD, REPLAY):
        count, seed = (GUARD_IMAGES, GUARD_SEED) if split == GUARD else (REPLAY_IMAGES, REPLAY_SEED)
        return [pair for image in shapes(count, seed=seed) for pair in _pairs(image)]
    items = VALIDATION_ITEMS if split == "validation" else None
    return [pair for image in fashion(split, items=items) for pair in _pairs(image)]


def _pairs(image: CatalogueImage) -> list[Pair]:
    return [Pair(caption, image.jpeg, image.item, language) for language, caption in image.captions.items()]


@cache
def _stamps(folder: Path, split: str) -> list[Pair]:
    return read_stamps(folder, split)


def _clip_mini(folder: Path) -> Clip:
    return load_backbone(find_backbone("clip-mini"))


def _stamp_model(folder: Path) -> Clip:
    """Return a CLIP of EfficientNet-Lite0 and MiniLM, for images of STAMP_SIDE pixels."""
    kept = folder / "stamp-model"
    if not (kept / CONFIG_FILE).is_file():
        vision, text = vision_checkpoint(folder), text_model(folder)
        model = read_parts(f"tf_efficientnet_lite0::{vision}+{text}", "stamps")
        with tempfile.TemporaryDirectory(dir=folder) as name:
            made = Path(name) / "model"
            save_towers(model, made)
            config = json.loads((made / CONFIG_FILE).read_text())
            config["model_cfg"]["vision_cfg"]["image_size"] = STAMP_SIDE
            config["preprocess_cfg"]["size"] = [STAMP_SIDE, STAMP_SIDE]
            (made / CONFIG_FILE).write_text(json.dumps(config))
            made.rename(kept)
    return load_towers(kept, "stamps")


SETS: Mapping[str, QualitySet] = {
    one.name: one
    for one in (
        QualitySet("catalogue", "clip-mini", 128, 8, _catalogue, _clip_mini, has_guard=True),
        QualitySet("stamps", "clip-from-parts", 64, 25, _stamps, _stamp_model, has_guard=False),
    )
}
