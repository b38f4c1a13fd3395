"""Zips of artifacts: complete, and unable to write outside their folder."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from finetuner.artifacts.archive import unzip_artifact, zip_artifact
from finetuner.artifacts.manifest import MANIFEST, read_manifest, sealed, verify_artifact
from finetuner.exceptions import CorruptedArtifact, CorruptedMetadata


def test_a_zip_round_trip_changes_nothing(published: Path, tmp_path: Path) -> None:
    archive = zip_artifact(published, tmp_path / "out" / "run.zip", "first-run")
    assert [path.name for path in archive.parent.iterdir()] == ["run.zip"]
    with zipfile.ZipFile(archive) as opened:
        assert sorted(opened.namelist()) == sorted(
            f"first-run/{name}" for name in [MANIFEST, *read_manifest(published).files]
        )
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
    with pytest.raises(CorruptedArtifact, match="bomb is larger than its manifest states"):
        unzip_artifact(archive, tmp_path / "target")
    assert (tmp_path / "target" / "bomb").stat().st_size <= 10


def test_an_unlisted_member_is_not_unpacked(published: Path, tmp_path: Path) -> None:
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
def test_other_zips_are_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    with pytest.raises(CorruptedArtifact, match="must"):
        unzip_artifact(zipped(tmp_path / "other.zip", members), tmp_path / "target")


def test_missing_members_and_clashing_names_are_refused(published: Path, tmp_path: Path) -> None:
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
