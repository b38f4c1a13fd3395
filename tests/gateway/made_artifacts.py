"""Artifacts of a CLIP of one layer, with random weights of any size."""

from __future__ import annotations

import json
import math
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from tokenizers import Tokenizer, models

from finetuner.artifacts.manifest import MANIFEST, Manifest, sealed, sha256_of
from finetuner.models.clip import TEXT, TOWERS, VISION

BLOCK = 2**20
DIM = 4
WEIGHTS = f"models/{TEXT}/weights.safetensors"


def make_artifact(folder: Path, artifact_id: str, weight_bytes: int = 64, **fields: Any) -> Path:
    """Write an artifact of at least `weight_bytes` random bytes; `fields` replace those of the manifest."""
    width = 8 if weight_bytes < 2**24 else 512
    tokens = max(weight_bytes // (4 * width), 3)
    config = {
        "embed_dim": DIM,
        "vision_cfg": {"image_size": 8, "patch_size": 8, "width": 8, "layers": 1, "head_width": 8},
        "text_cfg": {"context_length": 4, "vocab_size": tokens, "width": width, "heads": 1, "layers": 1},
    }
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    Tokenizer(models.BPE()).save(str(folder / "models" / "tokenizer.json"))
    with torch.device("meta"):
        shapes = {name: [*value.shape] for name, value in open_clip.CLIP(**config).state_dict().items()}
    for tower in TOWERS:
        own = {name: shape for name, shape in shapes.items() if name.startswith("visual.") == (tower == VISION)}
        write_weights(folder / "models" / tower / "weights.safetensors", own)
    (folder / "config.yml").write_text("model: clip-mini\n")
    return seal(folder, artifact_id, **fields)


def write_weights(file: Path, shapes: Mapping[str, list[int]]) -> None:
    """Write tensors of random bytes, float32."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    file.parent.mkdir(exist_ok=True)
    encoded = json.dumps(header).encode()
    with open(file, "wb") as opened:
        opened.write(struct.pack("<Q", len(encoded)) + encoded)
        for start in range(0, end, BLOCK):
            opened.write(os.urandom(min(BLOCK, end - start)))


def seal(folder: Path, artifact_id: str, **fields: Any) -> Path:
    """Write the manifest of a folder's files."""
    described = {
        **vars(Manifest(artifact_id, "made", "clip-mini", DIM, [*TOWERS], {}, {}, "2026-01-01T00:00:00+00:00", "0")),
        **fields,
    }
    described["files"] = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    (folder / MANIFEST).write_text(sealed(described))
    return folder


def zipped(folder: Path, target: Path, more: Mapping[zipfile.ZipInfo | str, bytes] | None = None) -> Path:
    """Zip a folder as `made/...`, followed by other members."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(path, f"made/{path.relative_to(folder).as_posix()}")
        for member, content in (more or {}).items():
            archive.writestr(member, content)
    return target
