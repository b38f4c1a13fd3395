"""A CLIP as a folder that open_clip loads by `local-dir:`."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..exceptions import InvalidInput
from ..models.clip import Clip, approximation
from ..models.clip_files import CONFIG_FILE, OPEN_CLIP_WEIGHTS_FILE
from ..models.text.byte_pair_tokenizer import BytePairTokenizer
from ..models.text.text_towers import TEXT_CONFIG_FILE, FileTokenizer
from ..models.weights import write_weights
from .tokenizer_files import write_file_config, write_tokenizer


def write_open_clip(model: Clip, folder: Path) -> None:
    """Write a model that `open_clip.create_model_and_transforms("local-dir:FOLDER")` loads, with its tokenizer.

    Args:
        model: any CLIP. open_clip looks a text tower of transformers up by its name, on the hub.
        folder: exists.

    Raises:
        InvalidInput: open_clip would compute other vectors.
    """
    if approximation(model.config):
        raise InvalidInput(
            "to='open_clip' cannot hold a tower of timm with the tanh approximation of GELU. Got one, imported from "
            "transformers. Take to='transformers'."
        )
    config: dict[str, Any] = deepcopy(dict(model.config))
    for name, file in model.files.items():
        (folder / name).write_text(file, encoding="utf-8", newline="")
    if isinstance(model.tokenizer, BytePairTokenizer):
        write_tokenizer(model, folder)
        # any name: open_clip takes the folder's own
        config["text_cfg"] |= {"hf_tokenizer_name": "clip-mini", "tokenizer_kwargs": {"clean": "lower"}}
    elif isinstance(model.tokenizer, FileTokenizer) and TEXT_CONFIG_FILE not in model.files:
        write_file_config(model, folder)
    content = {"model_cfg": config, "preprocess_cfg": asdict(model.preprocess_config)}
    (folder / CONFIG_FILE).write_text(json.dumps(content, indent=1))
    write_weights(model.network, folder / OPEN_CLIP_WEIGHTS_FILE)
