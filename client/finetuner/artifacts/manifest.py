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
import logging
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..exceptions import ArtifactNotFound, CorruptedArtifact, CorruptedMetadata
from ..workspace.folder import Workspace, publish_folder, temporary_folder

if TYPE_CHECKING:
    from ..documents.pairs import Pair
    from ..models.model_kinds import Model
    from ..onnx.model import OnnxModel
    from ..onnx.session import SessionOptions

log = logging.getLogger("finetuner")

MANIFEST = "manifest.json"
FORMAT = 1
UNSEALED = "0" * 64  # stands in the manifest for its own SHA-256 while that is computed
MAX_FILES = 1000
MAX_TOTAL_BYTES = 64 * 2**30
# What zipfile raises on damaged, encrypted or foreign content, and what two members of clashing names lead to.
UNZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    UnicodeDecodeError,
    RuntimeError,  # encrypted; NotImplementedError, an unknown compression, is one of these
    FileExistsError,
    NotADirectoryError,
)


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


def publish(
    workspace: Workspace,
    model: Model,
    manifest: Manifest,
    config: Mapping[str, Any],
    examples: Mapping[str, Any] | None = None,
    *,
    to_onnx: bool | str = False,
    pairs: Sequence[Pair] = (),
    kept: Mapping[str, Path] | None = None,
) -> Path:
    """Write an artifact and give it its final name in one step.

    Args:
        workspace: gets the folder `artifacts/<artifact_id>`.
        model: the tuned model.
        manifest: without `files`, which are filled in here.
        config: of the run.
        examples: what queries found, {stage: {query: [match, ...]}}.
        to_onnx: write each tower as ONNX, too, and log how far it is from torch; 'int8' of a CLIP: once more with int8
            weights, and log what those cost.
        pairs: evaluation data for that.
        kept: files and folders that the run left for the artifact, by their path inside it.

    Returns:
        The artifact's folder.

    Raises:
        FinetunerError: a tower cannot be had as ONNX; nothing is published then.
    """
    import yaml

    from ..models.model_kinds import save_model

    temporary = temporary_folder(workspace.artifacts)
    try:
        save_model(model, temporary / "models")
        if to_onnx:
            _export(model, temporary / "models", int8=to_onnx == "int8", pairs=pairs)
        for name, source in (kept or {}).items():
            (temporary / name).parent.mkdir(exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, temporary / name)
        (temporary / "config.yml").write_text(yaml.safe_dump(dict(config), sort_keys=False))
        (temporary / "metrics.yml").write_text(yaml.safe_dump(manifest.metrics, sort_keys=False))
        if examples:
            (temporary / "example-results.yml").write_text(yaml.safe_dump(dict(examples), sort_keys=False))
        described = asdict(manifest) | {"files": {}}
        for path in sorted(path for path in temporary.rglob("*") if path.is_file()):
            name = path.relative_to(temporary).as_posix()
            described["files"][name] = {"size": path.stat().st_size, "sha256": sha256_of(path)}
        (temporary / MANIFEST).write_text(sealed(described))
        final = workspace.artifacts / manifest.artifact_id
        publish_folder(temporary, final)
        return final
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _export(model: Model, folder: Path, *, int8: bool, pairs: Sequence[Pair]) -> None:
    from ..models.clip import Clip
    from ..onnx.export import MAX_DIFFERENCE, export_int8, export_onnx

    for tower, difference in export_onnx(model, folder).items():
        log.info("ONNX of %s differs from torch by %.1e, of %.0e allowed", tower, difference, MAX_DIFFERENCE)
    if int8:
        assert isinstance(model, Clip)  # RunConfig refuses it for pictures
        for line in export_int8(model, folder, pairs):
            log.info("%s", line)


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


def verify(folder: Path) -> Manifest:
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


def load(folder: Path, device: str = "cpu", towers: Sequence[str] | None = None) -> Model:
    """Verify an artifact and load it.

    Args:
        folder: of the artifact.
        device: torch's name of a device.
        towers: which models; all by default.

    Raises:
        ArtifactNotFound, CorruptedArtifact, KeysMismatchError, InvalidInput
    """
    from ..models.model_kinds import load_model

    manifest = verify(folder)
    return load_model(folder / "models", manifest.artifact_id, device, towers or manifest.towers)


def load_onnx(
    folder: Path,
    tower: str,
    device: str | None = None,
    *,
    int8: bool = False,
    session_options: SessionOptions | None = None,
) -> OnnxModel:
    """Verify an artifact and load one tower from its ONNX file.

    Args:
        folder: of the artifact.
        tower: one of the manifest's.
        device, int8, session_options: see `onnx_model.load_onnx`.

    Raises:
        ArtifactNotFound, CorruptedArtifact, CorruptedONNXModel, InvalidInput
    """
    from ..onnx import model as onnx_model

    manifest = verify(folder)
    return onnx_model.load_onnx(
        folder / "models",
        tower,
        manifest.artifact_id,
        manifest.output_dim,
        device,
        int8=int8,
        session_options=session_options,
    )


def zip_folder(folder: Path, target: Path, name: str) -> Path:
    """Write the artifact in `folder` as a zip with one top folder `name`; replaced in one step.

    Returns:
        `target`
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.part")
    manifest = read_manifest(folder)
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:  # weights do not compress
            for file in [MANIFEST, *manifest.files]:
                archive.write(folder / file, f"{name}/{file}")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def unzip(archive: Path, folder: Path) -> Path:
    """Take an artifact out of a zip: only what its manifest lists, no further than the sizes stated there.

    Returns:
        `folder`, which now holds the artifact, not verified yet.

    Raises:
        CorruptedArtifact: not a zip of one artifact.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if name.endswith(f"/{MANIFEST}") and name.count("/") == 1]
            if len(names) != 1:
                raise CorruptedMetadata(f"{archive} must hold one artifact with {MANIFEST}. Got {len(names)}.")
            top = names[0].removesuffix(MANIFEST)
            content = opened.open(names[0]).read(2**24)
            manifest = parse_manifest(content.decode(), str(archive))
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MANIFEST).write_bytes(content)
            for name, entry in manifest.files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with opened.open(top + name) as source, open(folder / name, "wb") as target:
                    copied = 0
                    while block := source.read(2**20):
                        copied += len(block)
                        if copied > entry["size"]:
                            raise CorruptedArtifact(f"{archive}: {name} is larger than its manifest says.")
                        target.write(block)
    except UNZIP_ERRORS as error:
        raise CorruptedArtifact(f"{archive} must be a zip that save_artifact wrote. It is not: {error}") from error
    return folder
