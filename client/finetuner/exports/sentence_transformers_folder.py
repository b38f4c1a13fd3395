"""A CLIP as the folder of a SentenceTransformer that encodes texts and images."""

from __future__ import annotations

import json
from pathlib import Path

from ..models.clip import Clip
from .clip_model import write_clip_model

CLIP_FOLDER, NORMALIZE_FOLDER = "0_CLIPModel", "1_Normalize"  # as sentence-transformers names them


def write_sentence_transformers(model: Clip, folder: Path) -> None:
    """Write a model that `sentence_transformers.SentenceTransformer(FOLDER)` loads, with L2-normalised embeddings.

    Args:
        model: see `write_clip_model`.
        folder: exists.

    Raises:
        InvalidInput: transformers' CLIPModel cannot hold the model.
    """
    for name in (CLIP_FOLDER, NORMALIZE_FOLDER):
        (folder / name).mkdir()
    write_clip_model(model, folder / CLIP_FOLDER)
    modules = [
        {"idx": index, "name": str(index), "path": name, "type": f"sentence_transformers.models.{name[2:]}"}
        for index, name in enumerate((CLIP_FOLDER, NORMALIZE_FOLDER))
    ]
    settings: dict[str, object] = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    (folder / "modules.json").write_text(json.dumps(modules, indent=1))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings, indent=1))
