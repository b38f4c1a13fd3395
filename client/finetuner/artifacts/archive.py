"""Writes an artifact as a zip and unpacks such a zip safely."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..exceptions import ArtifactNotFound, CorruptedArtifact, CorruptedMetadata
from .manifest import MANIFEST, parse_manifest, read_manifest

# Errors of zipfile on damaged, encrypted or foreign content, and of two members whose names clash.
UNZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    UnicodeDecodeError,
    RuntimeError,  # an encrypted member; its subclass NotImplementedError is an unknown compression
    FileExistsError,
    NotADirectoryError,
)


def zip_artifact(folder: Path, target: Path, name: str) -> Path:
    """Write the artifact in `folder` as a zip whose only top folder is `name`. The zip replaces `target` in one step.

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


@contextmanager
def artifact_folder(path: Path) -> Iterator[Path]:
    """Yield the folder of an artifact given as its folder, the folder above it, or its zip.

    Raises:
        ArtifactNotFound, CorruptedArtifact
    """
    if path.is_dir():
        inner = [entry for entry in path.iterdir() if (entry / MANIFEST).is_file()]
        yield inner[0] if len(inner) == 1 and not (path / MANIFEST).is_file() else path
        return
    if not path.is_file():
        raise ArtifactNotFound(f"artifact must be a folder, a zip or an artifact id. Got {str(path)!r}.")
    with tempfile.TemporaryDirectory(prefix="finetuner-") as folder:
        yield unzip_artifact(path, Path(folder))


def unzip_artifact(archive: Path, folder: Path) -> Path:
    """Unpack an artifact from a zip: only the files that its manifest lists, up to the sizes that it states.

    Returns:
        `folder`, which then holds the artifact. Its hashes are not verified yet.

    Raises:
        CorruptedArtifact: the file is not a zip of one artifact.
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
                            raise CorruptedArtifact(f"{archive}: {name} is larger than its manifest states.")
                        target.write(block)
    except UNZIP_ERRORS as error:
        raise CorruptedArtifact(f"{archive} must be a zip that save_artifact wrote. It is not: {error}") from error
    return folder
