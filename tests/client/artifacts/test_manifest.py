"""The manifest: every change of a byte is found, and no path leaves the artifact."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetuner.artifacts.manifest import FORMAT, MANIFEST, parse_manifest, read_manifest, verify_artifact
from finetuner.exceptions import ArtifactNotFound, CorruptedArtifact, CorruptedMetadata
from tests.client.conftest import manifest

FILES = [
    "config.yml",
    "metrics.yml",
    "models/clip-text/weights.safetensors",
    "models/clip-vision/weights.safetensors",
    "models/open_clip_config.json",
    "models/tokenizer.json",
]


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({}, ()),
        ({"loss_options": {}}, ()),
        ({"loss_options": {"matryoshka_dims": [32, 64]}}, (64, 32)),
        ({"loss_options": {"matryoshka_dims": [128]}}, ()),
        ({"loss_options": {"matryoshka_dims": [64.5, "x"]}}, ()),
        ({"loss_options": {"matryoshka_dims": 64}}, ()),
        ({"loss_options": [64]}, ()),
        ({"imported": "from elsewhere"}, ()),
        ([], ()),
    ],
    ids=str,
)
def test_short_vectors_are_those_of_the_runs_loss(training: Any, expected: tuple[int, ...]) -> None:
    assert replace(manifest(), training=training).short_dims == expected


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("position", ["first", "middle", "last"])
def test_a_flipped_bit_is_found(copy: Path, name: str, position: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[{"first": 0, "middle": len(content) // 2, "last": -1}[position]] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(CorruptedArtifact, match=f"{name} differs from the manifest"):
        verify_artifact(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_a_longer_and_a_linked_file_are_found(copy: Path, tmp_path: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    with pytest.raises(CorruptedArtifact, match=f"must hold {name}"):
        verify_artifact(copy)
    (copy / name).write_bytes(content + b"x")
    with pytest.raises(CorruptedArtifact, match=f"{name} differs"):
        verify_artifact(copy)
    (tmp_path / "elsewhere").write_bytes(content)
    (copy / name).unlink()
    (copy / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptedArtifact, match=f"must hold {name}"):
        verify_artifact(copy)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b'"text"',
        b"[" * 100_000,
        b'{"artifact_id": "x", "unknown": 1}',
    ],
)
def test_other_content_is_refused(copy: Path, content: bytes) -> None:
    (copy / MANIFEST).write_bytes(content)
    with pytest.raises(CorruptedMetadata) as caught:
        verify_artifact(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/../../x", "a\\..\\x", "a\0b", "", ".", "./a", "a//b", "a/", MANIFEST],
)
def test_a_manifest_with_a_path_that_leaves_the_folder_is_refused(copy: Path, name: str) -> None:
    rewrite(copy, lambda content: content["files"].update({name: {"size": 1, "sha256": "0"}}))
    with pytest.raises(CorruptedMetadata, match="files inside the artifact"):
        read_manifest(copy)


@pytest.mark.parametrize("size", [-1, 2**60, float("inf"), float("nan"), "1", None, True, 1.0])
def test_a_manifest_with_another_size_is_refused(copy: Path, size: Any) -> None:
    rewrite(copy, lambda content: content["files"]["config.yml"].update(size=size))
    with pytest.raises(CorruptedMetadata):
        read_manifest(copy)


def test_a_manifest_with_too_many_files_or_of_another_format_is_refused(copy: Path) -> None:
    entry = {"size": 0, "sha256": "0"}
    rewrite(copy, lambda content: content["files"].update({f"f{number}": entry for number in range(1001)}))
    with pytest.raises(CorruptedMetadata, match="at most 1000 files"):
        read_manifest(copy)
    rewrite(copy, lambda content: content.update(format=2))
    with pytest.raises(CorruptedMetadata, match="artifact format must be 1. Got 2"):
        read_manifest(copy)


def test_no_artifact_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(ArtifactNotFound, match="must be a folder with manifest.json. Got"):
            read_manifest(path)


def test_the_error_names_the_source() -> None:
    with pytest.raises(CorruptedMetadata, match="manifest.json in grpc://somewhere must be"):
        parse_manifest("{}", "grpc://somewhere")
    assert FORMAT == 1
