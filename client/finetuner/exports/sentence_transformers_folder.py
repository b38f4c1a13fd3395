"""A CLIP or an image model as the folder of a SentenceTransformer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.clip import Clip, reads_end_token
from .clip_model import write_clip_model
from .sentence_modules import BY_PILLOW, NORMALIZE, Module, clip_model, router, transformer, write_modules
from .siglip_model import is_siglip, write_siglip_model
from .towers import image_modules, text_modules, vision_modules

if TYPE_CHECKING:
    from ..models.image_model import ImageModel

FEATURES = {kind: (f"get_{kind}_features", "pooler_output") for kind in ("text", "image")}


def write_sentence_transformers(model: Clip | ImageModel, folder: Path) -> None:
    """Write a model that `sentence_transformers.SentenceTransformer(FOLDER)` loads, with L2-normalised embeddings.

    A CLIP that transformers' CLIPModel or SiglipModel holds is one model there. Another becomes two towers, each with
    its projection, behind a Router.

    Args:
        model: a CLIP encodes texts and images, an image model images.
        folder: exists.

    Raises:
        InvalidInput: sentence-transformers has no module for a part of the model.
    """
    write_modules(folder, [*_modules(model), NORMALIZE])


def _modules(model: Clip | ImageModel) -> list[Module]:
    if not isinstance(model, Clip):
        return image_modules(model)
    if is_siglip(model):
        padded: dict[str, Any] = {"text": {"padding": "max_length"}}
        options: dict[str, Any] = {"processor_kwargs": BY_PILLOW, "processing_kwargs": padded}
        return [transformer(partial(write_siglip_model, model), FEATURES, "sentence_embedding", **options)]
    if reads_end_token(model.network) and type(model.network.visual).__name__ == "VisionTransformer":
        return [clip_model(partial(write_clip_model, model))]
    return [router({"text": text_modules(model), "image": vision_modules(model)})]
