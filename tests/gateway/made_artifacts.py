"""Artifacts without a model: a manifest, a config, and random weights of any size."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetuner.artifacts.manifest import MANIFEST, Manifest, sealed, sha256_of

BLOCK = 2**20
WEIGHTS = "models/clip-text/weights.safetensors"


def make_artifact(folder: Path, artifact_id: str, weight_bytes: int = 64, **fields: Any) -> Path:
    """Write an artifact whose weights are one tensor of random bytes; `fields` replace those of the manifest."""
    (folder / WEIGHTS).parent.mkdir(parents=True)
    header = json.dumps({"w": {"dtype": "U8", "shape": [weight_bytes], "data_offsets": [0, weight_bytes]}}).encode()
    with open(folder / WEIGHTS, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for start in range(0, weight_bytes, BLOCK):
            file.write(os.urandom(min(BLOCK, weight_bytes - start)))
    (folder / "config.yml").write_text("model: clip-mini\n")
    return seal(folder, artifact_id, **fields)


def seal(folder: Path, artifact_id: str, **fields: Any) -> Path:
    """Write the manifest of a folder's files."""
    described = {
        **vars(Manifest(artifact_id, "made", "clip-mini", 4, ["clip-text"], {}, {}, "2026-01-01T00:00:00+00:00", "0")),
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
