"""Artifacts: every byte is checked, and a zip from elsewhere cannot write anywhere."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetuner.artifacts.archive import unzip_artifact, zip_artifact
from finetuner.artifacts.load import load_artifact
from finetuner.artifacts.manifest import FORMAT, MANIFEST, parse_manifest, read_manifest, sealed, verify_artifact
from finetuner.artifacts.publish import publish_artifact
from finetuner.exceptions import ArtifactNotFound, CorruptedArtifact, CorruptedMetadata
from finetuner.models.clip import Clip
from finetuner.workspace.folder import Workspace

FILES = [
    "config.yml",
    "metrics.yml",
    "models/clip-text/weights.safetensors",
    "models/clip-vision/weights.safetensors",
    "models/open_clip_config.json",
    "models/tokenizer.json",
]


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / published.name))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def test_a_published_artifact_is_what_was_described(published: Path, mini: Clip) -> None:
    manifest = verify_artifact(published)
    assert sorted(manifest.files) == FILES
    assert published.name == manifest.artifact_id
    assert manifest.metrics["after"] == {"recall": 0.5}
    loaded = load_artifact(published)
    assert loaded.model_id == manifest.artifact_id
    assert np.array_equal(loaded.encode_texts(["a"]), mini.encode_texts(["a"]))
    assert load_artifact(published, towers=("clip-text",)).towers == ("clip-text",)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_flipped_bit_is_found(copy: Path, name: str, place: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[{"first": 0, "middle": len(content) // 2, "last": -1}[place]] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(CorruptedArtifact, match=f"{name} differs from the manifest"):
        load_artifact(copy)


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
def test_what_is_no_manifest_is_refused(copy: Path, content: bytes) -> None:
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


def test_a_failed_publish_leaves_nothing(tmp_path: Path, published: Path, mini: Clip) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(TypeError):
        publish_artifact(workspace, mini, read_manifest(published), None)  # type: ignore[arg-type]
    assert list(workspace.artifacts.iterdir()) == []


def test_a_zip_round_trip_changes_nothing(published: Path, tmp_path: Path) -> None:
    archive = zip_artifact(published, tmp_path / "out" / "run.zip", "first-run")
    assert [path.name for path in archive.parent.iterdir()] == ["run.zip"]
    with zipfile.ZipFile(archive) as opened:
        assert sorted(opened.namelist()) == sorted(f"first-run/{name}" for name in [MANIFEST, *FILES])
    assert verify_artifact(unzip_artifact(archive, tmp_path / "again")) == verify_artifact(published)


def test_a_zip_that_cannot_be_finished_leaves_nothing(copy: Path, tmp_path: Path) -> None:
    (copy / "config.yml").unlink()
    with pytest.raises(FileNotFoundError):
        zip_artifact(copy, tmp_path / "out" / "run.zip", "x")
    assert list((tmp_path / "out").iterdir()) == []


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def manifest_of(published: Path, files: dict[str, Any]) -> bytes:
    return sealed(json.loads((published / MANIFEST).read_text()) | {"files": files}).encode()


@pytest.mark.parametrize("name", ["../escape", "/tmp/finetuner-escape", "a/../../escape"])
def test_a_zip_cannot_write_outside(published: Path, tmp_path: Path, name: str) -> None:
    content = manifest_of(published, {name: {"size": 1, "sha256": "0"}})
    archive = zipped(tmp_path / "evil.zip", {f"run/{MANIFEST}": content, f"run/{name}": b"x"})
    with pytest.raises(CorruptedMetadata, match="files inside the artifact"):
        unzip_artifact(archive, tmp_path / "inner" / "target")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["evil.zip"]


def test_a_member_is_not_unpacked_past_its_stated_size(published: Path, tmp_path: Path) -> None:
    content = manifest_of(published, {"bomb": {"size": 10, "sha256": "0"}})
    members = {f"run/{MANIFEST}": content, "run/bomb": bytes(50_000_000)}
    archive = zipped(tmp_path / "bomb.zip", members, zipfile.ZIP_DEFLATED)
    with pytest.raises(CorruptedArtifact, match="bomb is larger than its manifest says"):
        unzip_artifact(archive, tmp_path / "target")
    assert (tmp_path / "target" / "bomb").stat().st_size <= 10


def test_what_is_not_listed_is_not_unpacked(published: Path, tmp_path: Path) -> None:
    members = {f"run/{MANIFEST}": manifest_of(published, {}), "run/extra": b"x", "other": b"y"}
    unzip_artifact(zipped(tmp_path / "more.zip", members), tmp_path / "target")
    assert [path.name for path in (tmp_path / "target").iterdir()] == [MANIFEST]


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"file": b"x"},
        {"deep/er/manifest.json": b"{}"},
        {"a/manifest.json": b"{}", "b/manifest.json": b"{}"},
        {"a/manifest.json": b"\xff"},
        {"a/manifest.json": b"{}"},
    ],
    ids=["empty", "no manifest", "too deep", "two", "no UTF-8", "no fields"],
)
def test_a_zip_of_something_else_is_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    with pytest.raises(CorruptedArtifact, match="must"):
        unzip_artifact(zipped(tmp_path / "other.zip", members), tmp_path / "target")


def test_a_listed_file_that_the_zip_lacks_and_names_that_clash_are_refused(published: Path, tmp_path: Path) -> None:
    entry = {"size": 1, "sha256": "0"}
    missing = {f"run/{MANIFEST}": manifest_of(published, {"a": entry})}
    with pytest.raises(CorruptedArtifact, match="must be a zip that save_artifact wrote"):
        unzip_artifact(zipped(tmp_path / "missing.zip", missing), tmp_path / "one")
    clash = {f"run/{MANIFEST}": manifest_of(published, {"a": entry, "a/b": entry}), "run/a": b"x", "run/a/b": b"x"}
    with pytest.raises(CorruptedArtifact, match="must be a zip that save_artifact wrote"):
        unzip_artifact(zipped(tmp_path / "clash.zip", clash), tmp_path / "two")


def test_a_damaged_zip_is_refused(published: Path, tmp_path: Path) -> None:
    good = zip_artifact(published, tmp_path / "good.zip", "run").read_bytes()
    damaged = bytearray(good)
    damaged[len(damaged) // 2] ^= 1
    encrypted = bytearray(zipped(tmp_path / "x.zip", {"run/manifest.json": b"{}"}).read_bytes())
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("run/manifest.json", b"{}" * 1000)
    deflated = bytearray(packed.getvalue())
    deflated[47:57] = b"\xff" * 10
    for content in (b"", b"text", good[:1000], good[:-10], bytes(damaged), bytes(encrypted), bytes(deflated)):
        (tmp_path / "bad.zip").write_bytes(content)
        with pytest.raises(CorruptedArtifact, match=r"must be a zip that save_artifact wrote"):
            unzip_artifact(tmp_path / "bad.zip", tmp_path / "target")


def test_a_manifest_names_where_it_came_from() -> None:
    with pytest.raises(CorruptedMetadata, match="manifest.json in grpc://somewhere must be"):
        parse_manifest("{}", "grpc://somewhere")
    assert FORMAT == 1
