"""Fingerprints of a CLIP's towers: towers with the same fingerprint make the same vectors.

A fingerprint is a SHA-256 over everything that the vectors of a tower depend on: its tensors bit by bit, its
architecture, and its preprocessing or tokenizer. The scale of the logits changes no vector and is left out. So a run
that freezes a tower gives an artifact with its parent's fingerprint, also where the parent is a pretrained backbone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..exceptions import ArtifactNotFound, CorruptedMetadata, FinetunerServerError
from ..models.clip import TEXT, TOWERS, VISION
from ..models.clip_files import WEIGHTS_FILE, read_clip_config
from ..models.text.text_towers import TEXT_CONFIG_FILE, TOKENIZER_FILE
from ..workspace.folder import Workspace
from .manifest import read_manifest

if TYPE_CHECKING:
    from ..models.clip import Clip

# Of the logits: no vector depends on them.
SCALES = ("logit_scale", "logit_bias")
UNUSED = ("init_logit_scale", "init_logit_bias")
CONFIGS = {TEXT: "text_cfg", VISION: "vision_cfg"}
PIECE = 2**24  # bytes that are read at once


def model_fingerprints(model: Clip) -> dict[str, str]:
    """Return the fingerprint of each tower of a model in memory, 64 hex characters by 'clip-text' and 'clip-vision'."""
    from safetensors.torch import save

    found = {}
    state = model.network.state_dict()
    for tower in TOWERS:
        described = _described(tower, model.config, asdict(model.preprocess_config), model.files)
        digest = hashlib.sha256(described)
        for name in sorted(name for name in state if _is_of(tower, name)):
            content = save({name: state[name].detach().cpu().contiguous()})
            start = 8 + int.from_bytes(content[:8], "little")
            entry = json.loads(content[8:start])[name]
            digest.update(_head(name, entry))
            digest.update(memoryview(content)[start:])
        found[tower] = digest.hexdigest()
    return found


def stored_fingerprints(folder: Path) -> dict[str, str]:
    """Return the same as `model_fingerprints` for a model at rest. {} for an image model, which has no text tower.

    Args:
        folder: an artifact's `models/`.

    Raises:
        CorruptedArtifact: the configuration cannot be read.
    """
    if not all((folder / tower / WEIGHTS_FILE).is_file() for tower in TOWERS):
        return {}
    config = read_clip_config(folder)
    named = (TOKENIZER_FILE, TEXT_CONFIG_FILE)
    files = {name: (folder / name).read_text(encoding="utf-8") for name in named if (folder / name).is_file()}
    found = {}
    for tower in TOWERS:
        digest = hashlib.sha256(_described(tower, config["model_cfg"], config["preprocess_cfg"], files))
        with open(folder / tower / WEIGHTS_FILE, "rb") as file:
            for piece in _tensors(file, tower):
                digest.update(piece)
        found[tower] = digest.hexdigest()
    return found


def known_fingerprints(workspace: Workspace, model_id: str) -> dict[str, str]:
    """Return the fingerprints of an artifact, or of a backbone that a run of this workspace has started from.

    {} where none are known: an artifact of an earlier version, or a damaged file. No fingerprint equals none.

    Args:
        workspace: with the artifacts and the record of backbones.
        model_id: artifact id or backbone name.
    """
    with suppress(ArtifactNotFound, CorruptedMetadata, OSError):
        folder = workspace.artifacts / model_id
        if folder.parent == workspace.artifacts and folder.is_dir():
            return read_manifest(folder).fingerprints
    with suppress(FinetunerServerError):
        return dict(workspace.fingerprints.get(model_id) or {})
    return {}


def same_towers(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """Return the towers that have the same fingerprint in both, sorted."""
    return sorted(tower for tower in TOWERS if tower in first and first[tower] == second.get(tower))


def _described(tower: str, config: Mapping[str, Any], preprocess: Mapping[str, Any], files: Mapping[str, str]) -> bytes:
    """Return everything but the tensors that the tower's vectors depend on, as canonical JSON."""
    left_out = {*UNUSED, *CONFIGS.values()} - {CONFIGS[tower]}
    values = {
        "tower": tower,
        "config": {name: value for name, value in config.items() if name not in left_out},
        "input": dict(preprocess) if tower == VISION else dict(files),
    }
    return json.dumps(values, sort_keys=True).encode()


def _tensors(file: BinaryIO, tower: str) -> Iterator[bytes]:
    """Yield name, type and shape of each tensor of a safetensors file, then its bytes, sorted by name."""
    start = 8 + int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(start - 8))
    for name in sorted(name for name in header if name != "__metadata__" and _is_of(tower, name)):
        yield _head(name, header[name])
        begin, end = header[name]["data_offsets"]
        file.seek(start + begin)
        while begin < end:
            piece = file.read(min(PIECE, end - begin))
            if not piece:
                raise EOFError(f"{name} of {tower} must have {end - begin} more bytes")
            begin += len(piece)
            yield piece


def _head(name: str, entry: Mapping[str, Any]) -> bytes:
    return json.dumps([name, entry["dtype"], entry["shape"]]).encode()


def _is_of(tower: str, name: str) -> bool:
    return name not in SCALES and (tower == VISION) == name.startswith("visual.")
