"""The manifest of an artifact: the file that lists every other file with its size and SHA-256.

An artifact is the folder of a tuned model. `<tower>` is clip-text and clip-vision, or the name of an image model:

manifest.json                       the manifest; it holds its own SHA-256 as well
config.yml                          the run's configuration
metrics.yml                         metrics before and after training
example-results.yml                 matches of example queries before and after, if the run gathered them
models/open_clip_config.json        CLIP: open_clip's `model_cfg` and `preprocess_cfg`
models/tokenizer.json               CLIP: the tokenizer, unless it is open_clip's own
models/config.json                  CLIP: configuration of a text tower from transformers, such as XLM-R
models/open_clip_model.safetensors  CLIP: no weights, so that open_clip refuses the folder
models/<tower>/image_model.json     image model: backbone, head and preprocessing
models/<tower>/weights.safetensors
models/<tower>/model.onnx           if the run had `to_onnx`
models/<tower>/model-int8.onnx      if the run had `to_onnx="int8"`
calibration.json                    CLIP: similarities to probabilities, see `evaluation.calibration`, if the run had
                                    enough evaluation data
wise_ft.json                        {"metric", "alpha", "curve": [[alpha, score], ...]}, if WiSE-FT compared alphas;
                                    with a guard also "guard_curve" and "guard_area"
ends/tuned/                         the weights at alpha 1, as models/ has them, if WiSE-FT compared alphas; the
                                    manifest's `parent` has the weights at alpha 0
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..config.matryoshka import MATRYOSHKA_DIMS
from ..exceptions import ArtifactNotFound, CorruptedArtifact, CorruptedMetadata

MANIFEST = "manifest.json"
FORMAT = 1
FINGERPRINTS = "fingerprints"  # in `training`
UNSEALED = "0" * 64  # placeholder of the manifest's own SHA-256 while that is computed
MAX_FILES = 1000
MAX_TOTAL_BYTES = 64 * 2**30


@dataclass(frozen=True)
class Manifest:
    """The description of an artifact and the list of its files."""

    artifact_id: str
    """24 hex characters, allocated when the run was created."""
    run_name: str
    """Name of the run that made the artifact."""
    backbone: str
    """Name of the backbone that was tuned."""
    output_dim: int
    """Embedding size."""
    towers: list[str]
    """Names of its towers: clip-text and clip-vision, or the name of an image model."""
    metrics: dict[str, dict[str, float]]
    """{'before': {name: value}, 'after': {name: value}}, empty without evaluation data."""
    data: dict[str, str]
    """Content hashes of the training and evaluation data."""
    created_at: str
    """ISO 8601, UTC."""
    code_version: str
    """Version of open-finetuner."""
    parent: str = ""
    """The artifact or backbone whose weights the run started from."""
    training: dict[str, Any] = field(default_factory=dict)
    """The run's options in force: learning rate, batch size, steps, optimizer and others, see `Run.resolved`."""
    format: int = FORMAT
    """Version of the manifest's format."""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Relative POSIX path -> {'size': bytes, 'sha256': hex}."""
    sha256: str = UNSEALED
    """SHA-256 in hex of the manifest with zeros in this field. It reveals any change to the manifest."""

    @property
    def short_dims(self) -> tuple[int, ...]:
        """Sizes of short vectors that the run trained, from the largest to the smallest: `matryoshka_dims`.

        They are read from `training`, which older clients know too. () of an artifact of another run, or imported.
        """
        options = self.training.get("loss_options") if isinstance(self.training, dict) else None
        sizes = options.get(MATRYOSHKA_DIMS) if isinstance(options, dict) else None
        if not isinstance(sizes, list) or not all(type(size) is int and 0 < size < self.output_dim for size in sizes):
            return ()
        return tuple(sorted(set(sizes), reverse=True))

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprint of each tower of a CLIP, see `artifacts.fingerprints`.

        They are in `training`, which older clients read too. {} of an image model, or of an artifact of an earlier
        version.
        """
        found = self.training.get(FINGERPRINTS) if isinstance(self.training, dict) else None
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            return {}
        return dict(found)


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(fields: Mapping[str, Any]) -> str:
    """Return the JSON text of a manifest, with its own SHA-256 filled in.

    Args:
        fields: the fields of `Manifest` by name; `sha256` is ignored.
    """
    rest = {name: value for name, value in fields.items() if name != "sha256"}
    content = json.dumps(rest | {"sha256": UNSEALED}, indent=1)
    head, _, tail = content.rpartition(UNSEALED)  # the last one: another value may hold as many zeros
    return head + hashlib.sha256(content.encode()).hexdigest() + tail


def _is_sealed(content: str, sha256: object) -> bool:
    if not isinstance(sha256, str) or len(sha256) != len(UNSEALED):
        return False
    head, _, tail = content.rpartition(sha256)
    return hashlib.sha256(f"{head}{UNSEALED}{tail}".encode()).hexdigest() == sha256


def read_manifest(folder: Path) -> Manifest:
    """Return an artifact's manifest.

    Raises:
        ArtifactNotFound: the folder does not exist or holds no artifact.
        CorruptedMetadata: the manifest cannot be read, has another format, lists a path outside the folder, or
            differs from its SHA-256.
    """
    try:
        content = (folder / MANIFEST).read_bytes().decode()  # read_text would change line ends
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactNotFound(f"artifact must be a folder with {MANIFEST}. Got {str(folder)!r}.") from error
    except UnicodeDecodeError as error:
        raise CorruptedMetadata(f"{MANIFEST} in {folder} must be UTF-8. It is not: {error}") from error
    return parse_manifest(content, str(folder))


def parse_manifest(content: str, source: str) -> Manifest:
    """Return the checked manifest in a JSON text.

    Args:
        content: the JSON text.
        source: the folder, file or address that it comes from, for error messages.

    Raises:
        CorruptedMetadata: see `read_manifest`.
    """
    try:
        manifest = Manifest(**json.loads(content))
        sizes = [entry["size"] for entry in manifest.files.values()]
        safe = all(_is_safe(name) and isinstance(entry["sha256"], str) for name, entry in manifest.files.items())
        safe = safe and all(type(size) is int for size in sizes)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptedMetadata(f"{MANIFEST} in {source} must be an artifact's manifest. It is not: {error}") from error
    if manifest.format != FORMAT:
        raise CorruptedMetadata(
            f"artifact format must be {FORMAT}. Got {manifest.format} in {source}. Update the client."
        )
    if not safe or len(sizes) > MAX_FILES or min(sizes, default=0) < 0 or sum(sizes) > MAX_TOTAL_BYTES:
        raise CorruptedMetadata(f"{MANIFEST} in {source} must list at most {MAX_FILES} files inside the artifact.")
    if not _is_sealed(content, manifest.sha256):
        raise CorruptedMetadata(f"{MANIFEST} in {source} differs from the SHA-256 in it. Fetch it again.")
    return manifest


def _is_safe(name: str) -> bool:
    path = PurePosixPath(name)
    canonical = bool(path.parts) and str(path) == name and not path.is_absolute() and ".." not in path.parts
    return canonical and "\\" not in name and "\0" not in name and name != MANIFEST


def verify_artifact(folder: Path) -> Manifest:
    """Compare every file of an artifact with its manifest, and return the manifest.

    Raises:
        ArtifactNotFound, CorruptedMetadata: see `read_manifest`.
        CorruptedArtifact: a file is missing or differs. The message names the first one.
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
