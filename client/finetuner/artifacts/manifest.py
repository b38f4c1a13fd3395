"""The artifact: a folder with both towers and a manifest that lists every file with its size and SHA-256.

manifest.json                 below; the only file that lists the others, and it holds its own SHA-256
config.yml metrics.yml        the run's configuration; metrics before and after
example-results.yml           what queries found before and after, where the run gathered it
models/open_clip_config.json  open_clip's `model_cfg` and `preprocess_cfg`
models/tokenizer.json         where the tokenizer is not open_clip's own
models/config.json            where the text tower is one of transformers', such as XLM-R
models/clip-text/weights.safetensors  models/clip-vision/weights.safetensors
models/clip-text/model.onnx           models/clip-vision/model.onnx  where the run was asked for them
models/clip-text/model-int8.onnx      models/clip-vision/model-int8.onnx  the same
wise_ft.json                  {"metric", "alpha", "curve": [[alpha, score], ...]}, where WiSE-FT's alphas were swept
ends/tuned/                   as models/: the curve's end at alpha 1; the one at alpha 0 is the manifest's parent
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..exceptions import ArtifactNotFound, CorruptedArtifact, CorruptedMetadata

MANIFEST = "manifest.json"
FORMAT = 1
UNSEALED = "0" * 64  # stands in the manifest for its own SHA-256 while that is computed
MAX_FILES = 1000
MAX_TOTAL_BYTES = 64 * 2**30


@dataclass(frozen=True)
class Manifest:
    """What an artifact is, and every file in it."""

    artifact_id: str
    """24 hex characters, allocated when the run was created."""
    run_name: str
    """The run that made it."""
    backbone: str
    """Name of the backbone it was tuned from."""
    output_dim: int
    """Embedding size."""
    towers: list[str]
    """Its models."""
    metrics: dict[str, dict[str, float]]
    """{'before': {...}, 'after': {...}}, empty without evaluation data."""
    data: dict[str, str]
    """Content hashes of the training and evaluation data."""
    created_at: str
    """ISO 8601, UTC."""
    code_version: str
    """Of open-finetuner."""
    parent: str = ""
    """The artifact or backbone whose weights it started from."""
    format: int = FORMAT
    """Of this file."""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Relative POSIX path -> {'size': bytes, 'sha256': hex}."""
    sha256: str = UNSEALED
    """Of this file with zeros in this place, hex: no byte of it changes unseen."""


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(described: Mapping[str, Any]) -> str:
    """Return a manifest's JSON text with its own SHA-256 in it."""
    rest = {name: value for name, value in described.items() if name != "sha256"}
    content = json.dumps(rest | {"sha256": UNSEALED}, indent=1)
    head, _, tail = content.rpartition(UNSEALED)  # the last one: a value may hold as many zeros
    return head + hashlib.sha256(content.encode()).hexdigest() + tail


def _is_sealed(content: str, sha256: object) -> bool:
    if not isinstance(sha256, str) or len(sha256) != len(UNSEALED):
        return False
    head, _, tail = content.rpartition(sha256)
    return hashlib.sha256(f"{head}{UNSEALED}{tail}".encode()).hexdigest() == sha256


def read_manifest(folder: Path) -> Manifest:
    """Return an artifact's manifest.

    Raises:
        ArtifactNotFound: no such folder, or no artifact in it.
        CorruptedMetadata: a manifest that cannot be read, of another format, with a path that leaves the folder, or
            that differs from its SHA-256.
    """
    try:
        content = (folder / MANIFEST).read_bytes().decode()  # as it is: read_text would change line ends
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactNotFound(f"artifact must be a folder with {MANIFEST}. Got {str(folder)!r}.") from error
    except UnicodeDecodeError as error:
        raise CorruptedMetadata(f"{MANIFEST} in {folder} must be UTF-8. It is not: {error}") from error
    return parse_manifest(content, str(folder))


def parse_manifest(content: str, where: str) -> Manifest:
    """Return a checked manifest from its JSON text; `where` is for the error message.

    Raises:
        CorruptedMetadata: as above.
    """
    try:
        manifest = Manifest(**json.loads(content))
        sizes = [entry["size"] for entry in manifest.files.values()]
        safe = all(_is_safe(name) and isinstance(entry["sha256"], str) for name, entry in manifest.files.items())
        safe = safe and all(type(size) is int for size in sizes)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptedMetadata(f"{MANIFEST} in {where} must be an artifact's manifest. It is not: {error}") from error
    if manifest.format != FORMAT:
        raise CorruptedMetadata(
            f"artifact format must be {FORMAT}. Got {manifest.format} in {where}. Update the client."
        )
    if not safe or len(sizes) > MAX_FILES or min(sizes, default=0) < 0 or sum(sizes) > MAX_TOTAL_BYTES:
        raise CorruptedMetadata(f"{MANIFEST} in {where} must list at most {MAX_FILES} files inside the artifact.")
    if not _is_sealed(content, manifest.sha256):
        raise CorruptedMetadata(f"{MANIFEST} in {where} differs from the SHA-256 in it. Fetch it again.")
    return manifest


def _is_safe(name: str) -> bool:
    path = PurePosixPath(name)
    canonical = bool(path.parts) and str(path) == name and not path.is_absolute() and ".." not in path.parts
    return canonical and "\\" not in name and "\0" not in name and name != MANIFEST


def verify_artifact(folder: Path) -> Manifest:
    """Return the manifest after every file was compared with it.

    Raises:
        CorruptedArtifact: the first file that is missing or differs.
    """
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise CorruptedArtifact(f"artifact {manifest.artifact_id} must hold {name}. It does not. Fetch it again.")
        if path.stat().st_size != entry["size"] or sha256_of(path) != entry["sha256"]:
            raise CorruptedArtifact(
                f"artifact {manifest.artifact_id}: {name} differs from the manifest's SHA-256. Fetch it again."
            )
    return manifest
