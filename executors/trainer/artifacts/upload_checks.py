"""Checks an uploaded artifact before it is published: it must be a plain zip of one artifact, and nothing else.

The zip's list of members is checked before anything is unpacked. Weights are never loaded: the checks read only their
checksums and the headers of their files. `model_check` compares those with the configs.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from finetuner.artifacts.archive import UNZIP_ERRORS, unzip_artifact
from finetuner.artifacts.fingerprints import stored_fingerprints
from finetuner.artifacts.manifest import MANIFEST, MAX_FILES, MAX_TOTAL_BYTES, Manifest, verify_artifact
from finetuner.artifacts.registry import ARTIFACT_ID
from finetuner.contract.checks import NAME
from finetuner.exceptions import CorruptedArtifact, FinetunerError, InvalidInput

from .model_check import check_models

MAX_RATIO = 50  # of unpacked to packed bytes; weights hardly shrink
MAX_LIST_BYTES = MAX_TEXT_BYTES = 2**20  # the zip's list of its members; a manifest, and a short zip's metadata
MAX_JSON_BYTES = 2**26  # a tokenizer; every other file is far shorter
MAX_HEADER_BYTES = 2**24  # of a safetensors file
SUFFIXES = (".json", ".onnx", ".safetensors", ".yml")
PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
KINDS = (0, stat.S_IFREG, stat.S_IFDIR)
ENCRYPTED = 0x1
AGAIN = "Upload the zip that save_artifact wrote."


def unpack(file: Path, folder: Path) -> Manifest:
    """Unpack an artifact from a zip of unknown origin, and verify it.

    Args:
        file: the zip.
        folder: receives the files; created here.

    Returns:
        The manifest.

    Raises:
        InvalidInput: the zip, its members, the manifest or a file is wrong; the message names the fault.
    """
    try:
        names = check_members(file)
        unzip_artifact(file, folder)
        manifest = verify_artifact(folder)
    except CorruptedArtifact as error:
        raise InvalidInput(str(error).replace(str(file), "artifact").replace(str(folder), "the zip")) from None
    if others := sorted(names - {MANIFEST, *manifest.files}):
        raise InvalidInput(
            f"artifact must hold only the files that its {MANIFEST} lists. Got {others[0][:200]!r}. {AGAIN}"
        )
    check_manifest(manifest)
    for name in manifest.files:
        if name.endswith(".safetensors"):
            check_weights(folder / name, name)
        elif not name.endswith(".onnx") and manifest.files[name]["size"] > MAX_JSON_BYTES:
            raise InvalidInput(f"{name} must have at most {MAX_JSON_BYTES} bytes. Got more. {AGAIN}")
    try:
        check_models(folder)
    except FinetunerError as error:
        raise InvalidInput(str(error).replace(str(folder), "the zip")) from None
    if manifest.fingerprints and manifest.fingerprints != stored_fingerprints(folder / "models"):
        raise InvalidInput(
            f"{MANIFEST} must have the fingerprints of the artifact's towers: an index shares vectors by them. Got "
            f"others. {AGAIN}"
        )
    return manifest


def check_members(file: Path) -> set[str]:
    """Check a zip's list of members, and return the names of its files below the top folder.

    Raises:
        InvalidInput: paths that leave their folder, links, files of other kinds, or more than an artifact can have.
    """
    try:
        with _BoundedReads(file) as raw, zipfile.ZipFile(raw) as archive:
            members = archive.infolist()
    except (*UNZIP_ERRORS, ValueError, OverflowError, OSError, struct.error) as error:
        raise InvalidInput(f"artifact must be a zip. Got another file, or a part of one: {error}. {AGAIN}") from None
    if len(members) > 2 * MAX_FILES:
        raise InvalidInput(f"artifact must have at most {MAX_FILES} files. Got {len(members)}. {AGAIN}")
    for member in members:
        _check_member(member)
    names = [member.filename for member in members]
    if len(set(names)) < len(names) or len({name.partition("/")[0] for name in names}) != 1:
        raise InvalidInput(f"artifact's zip must have one folder at its top, and each file once. {AGAIN}")
    unpacked, packed = sum(member.file_size for member in members), file.stat().st_size
    if unpacked > MAX_TOTAL_BYTES or unpacked > MAX_RATIO * packed + MAX_TEXT_BYTES:
        raise InvalidInput(
            f"artifact must unpack to at most {MAX_TOTAL_BYTES} bytes, and {MAX_RATIO} times its zip. Got {unpacked} "
            f"bytes in a zip of {packed}. {AGAIN}"
        )
    return {member.filename.partition("/")[2] for member in members if not member.is_dir()}


def _check_member(member: zipfile.ZipInfo) -> None:
    name, path = member.orig_filename, PurePosixPath(member.orig_filename)
    if path.is_absolute() or ".." in path.parts or any(letter in name for letter in "\\\0:") or not path.parts:
        raise InvalidInput(f"artifact's files must lie inside its folder. Got {name[:200]!r}. {AGAIN}")
    if stat.S_IFMT(member.external_attr >> 16) not in KINDS:
        raise InvalidInput(f"artifact must hold plain files. Got {name[:200]!r}, a link or device. {AGAIN}")
    if member.flag_bits & ENCRYPTED or member.compress_type not in PLAIN:
        raise InvalidInput(
            f"artifact's zip must be stored or deflated, not encrypted. Got {name[:200]!r}, which is not. {AGAIN}"
        )
    if not member.is_dir() and path.suffix not in SUFFIXES:
        raise InvalidInput(
            f"artifact's files must be {', '.join(SUFFIXES)}: weights are safetensors, and no pickle is ever opened. "
            f"Got {name[:200]!r}. Leave it out."
        )
    if path.name == MANIFEST and member.file_size > MAX_TEXT_BYTES:
        raise InvalidInput(f"{MANIFEST} must have at most {MAX_TEXT_BYTES} bytes. Got {member.file_size}. {AGAIN}")


class _BoundedReads(io.FileIO):
    """A file that refuses long reads: `zipfile` reads a list of members of any length at once."""

    def read(self, size: int | None = -1, /) -> Any:
        """Return bytes, like any file.

        Raises:
            ValueError: the read is longer than the list of an artifact's files can be.
        """
        if size is not None and size > MAX_LIST_BYTES:
            raise ValueError(f"its list of files has {size} bytes, of {MAX_LIST_BYTES} allowed")
        return super().read(size)


def check_manifest(manifest: Manifest) -> None:
    """Check the fields that `parse_manifest` does not check: every room reads them later.

    Raises:
        InvalidInput: names the wrong fields.
    """
    right = {
        "artifact_id": isinstance(manifest.artifact_id, str) and ARTIFACT_ID.fullmatch(manifest.artifact_id),
        "run_name": _is_name(manifest.run_name),
        "backbone": _is_text(manifest.backbone) and manifest.backbone,
        "output_dim": type(manifest.output_dim) is int and 0 < manifest.output_dim <= 2**16,
        "towers": _are_towers(manifest.towers, manifest),
        "metrics": _is_table(manifest.metrics, dict) and all(map(_is_numbers, manifest.metrics.values())),
        "data": _is_table(manifest.data, str),
        "created_at": _is_time(manifest.created_at),
        "code_version": _is_text(manifest.code_version),
        "parent": _is_text(manifest.parent),
    }
    if wrong := [name for name, fine in right.items() if not fine]:
        raise InvalidInput(f"{MANIFEST} must describe the artifact of a run. Got a wrong {', '.join(wrong)}. {AGAIN}")


def check_weights(file: Path, name: str) -> None:
    """Check by its header that a file is safetensors.

    Raises:
        InvalidInput: the file has another format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open(file, "rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes")
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, struct.error, ValueError, OSError) as error:
        raise InvalidInput(f"{name} must be safetensors. It is not: {error}. {AGAIN}") from None


def _is_name(value: object) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 1000 and value.isprintable()


def _is_table(value: object, kind: type) -> bool:
    return isinstance(value, dict) and all(isinstance(inner, kind) for inner in value.values())


def _is_numbers(value: Any) -> bool:
    return all(isinstance(number, int | float) and not isinstance(number, bool) for number in value.values())


def _are_towers(value: object, manifest: Manifest) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return False
    return all(_is_name(tower) and f"models/{tower}/weights.safetensors" in manifest.files for tower in value)


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value) is not None
    except ValueError:
        return False
