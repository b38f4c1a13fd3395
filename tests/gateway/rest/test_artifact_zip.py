"""Artifacts as zips over HTTP: download, upload, and interrupted transfers."""

from __future__ import annotations

import io
import json
import socket
import zipfile
from pathlib import Path

import httpx
import pytest

import finetuner
from finetuner.artifacts.manifest import MANIFEST, Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.config.run_config import RunConfig
from finetuner.contract import wire
from finetuner.executors.trainer.artifacts import uploads as artifact_uploads
from finetuner.executors.trainer.artifacts.uploads import ArtifactUploads
from finetuner.executors.trainer.quota import UploadQuota
from finetuner.executors.trainer.run_store import RunStore
from finetuner.inference.local import open_artifact
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TOWERS
from finetuner.models.clip_files import load_backbone
from tests import plain_http
from tests.gateway.made_artifacts import WEIGHTS, make_artifact, zipped
from tests.gateway.rest.conftest import Handler
from tests.waiting import wait_until

ONE, TWO = "a" * 24, "b" * 24


def test_a_downloaded_zip_uploads_as_the_same_model(handler: Handler, tmp_path: Path) -> None:
    model = load_backbone(find_backbone("clip-mini"))
    manifest = Manifest(
        ONE, "tuned", "clip-mini", model.dim, [*TOWERS], {"after": {"recall": 0.5}}, {}, "2026-01-01", "0"
    )
    publish_artifact(handler.trainer.shared_workspace, model, manifest, {})
    wire.read_reply(handler.trainer.promote(parameters={"artifact": ONE})[0])
    down = handler.get("live")
    assert down.headers["content-disposition"] == 'attachment; filename="tuned.zip"'
    assert int(down.headers["content-length"]) == len(down.content)
    head = plain_http.head(f"{handler.http}/v1/artifacts/{ONE}/zip")
    assert (head.status_code, head.headers["content-length"]) == (200, down.headers["content-length"])
    (tmp_path / "tuned.zip").write_bytes(down.content)
    opened = open_artifact(tmp_path / "tuned.zip", 32, "clip-text", "cpu")
    assert finetuner.encode(opened, ["a red dress"]).shape == (1, model.dim)
    handler.folder(ONE).rename(tmp_path / "before")
    up = handler.put(down.content)
    assert up.status_code == 200
    assert up.json() == json.loads((tmp_path / "before" / MANIFEST).read_text())
    for path in (tmp_path / "before").rglob("*"):
        if path.is_file():
            name = path.relative_to(tmp_path / "before")
            assert (handler.folder(ONE) / name).read_bytes() == path.read_bytes()
    listed = wire.read_reply(handler.trainer.list_artifacts(parameters={})[0])
    assert [entry["artifact_id"] for entry in listed] == [ONE]


def test_parts_are_bounded_and_a_second_upload_changes_nothing(
    handler: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "PIECE_BYTES", 100_000)
    content = zipped(make_artifact(tmp_path / "made", ONE, 1_000_000), tmp_path / "made.zip").read_bytes()
    assert handler.put(content).status_code == 200
    there = {path: path.stat().st_mtime_ns for path in handler.folder(ONE).rglob("*")}
    assert handler.put(content).json()["artifact_id"] == ONE
    assert {path: path.stat().st_mtime_ns for path in handler.folder(ONE).rglob("*")} == there
    assert set(handler.parts[:10]) == {100_000}
    assert sum(handler.parts) == 2 * len(content)
    with zipfile.ZipFile(io.BytesIO(handler.get(ONE).content)) as archive:
        assert archive.testzip() is None
        assert archive.read(f"made/{WEIGHTS}") == (tmp_path / "made" / WEIGHTS).read_bytes()


def test_a_zip_made_elsewhere_may_be_deflated_and_have_folders(handler: Handler, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "made", ONE)
    with zipfile.ZipFile(tmp_path / "made.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in [folder, *sorted(folder.rglob("*"))]:
            archive.write(path, f"any name/{path.relative_to(folder).as_posix()}")
    answer = handler.put((tmp_path / "made.zip").read_bytes())
    assert (answer.status_code, answer.json()["run_name"]) == (200, "made")


def test_an_upload_cannot_replace_an_artifact(handler: Handler, tmp_path: Path) -> None:
    first = zipped(make_artifact(tmp_path / "first", ONE), tmp_path / "first.zip")
    other = zipped(make_artifact(tmp_path / "other", ONE), tmp_path / "other.zip")
    assert handler.put(first.read_bytes()).status_code == 200
    before = handler.left
    taken = handler.put(other.read_bytes())
    assert taken.status_code == 409
    assert taken.json()["detail"] == f"artifact id must be new. Got {ONE}, which has other content here."
    run = RunStore(handler.trainer.shared_workspace.runs_database).create(RunConfig("clip-mini", "pairs"), {})
    mine = zipped(make_artifact(tmp_path / "mine", run.artifact_id), tmp_path / "mine.zip")
    assert handler.put(mine.read_bytes()).json()["detail"].endswith("which belongs to a run of this Flow.")
    assert handler.left == before


def test_an_interrupted_upload_leaves_nothing(
    handler: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "PIECE_BYTES", 1000)
    content = zipped(make_artifact(tmp_path / "made", ONE, 50_000), tmp_path / "made.zip").read_bytes()
    host, port = handler.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        head = f"POST /v1/artifacts HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
        caller.sendall(head.encode() + content[:20_000])
        wait_until(lambda: handler.left, "an upload")
    wait_until(lambda: not handler.left, "its end")
    assert handler.put(content).status_code == 200


def test_an_upload_beyond_its_quota_is_refused_and_dropped(
    handler: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "PIECE_BYTES", 1000)
    content = zipped(make_artifact(tmp_path / "made", ONE, 50_000), tmp_path / "made.zip").read_bytes()
    handler.restart(upload_quota_gb=30_000 / 1e9)
    refused = handler.put(content)
    assert (refused.status_code, refused.json()["type"]) == (507, "InsufficientStorage")
    assert handler.left == []
    handler.restart(upload_quota_gb=120_000 / 1e9)
    assert handler.put(content).status_code == 200
    another = zipped(make_artifact(tmp_path / "another", TWO, 50_000), tmp_path / "another.zip")
    assert handler.put(another.read_bytes()).status_code == 507, "the first one counts"


def test_a_zip_that_unpacks_beyond_the_quota_is_refused(handler: Handler, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "made", ONE)
    (folder / "extra.json").write_bytes(b" " * 40_000)
    with zipfile.ZipFile(tmp_path / "made.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"made/{path.relative_to(folder).as_posix()}")
    content = (tmp_path / "made.zip").read_bytes()
    handler.restart(upload_quota_gb=(len(content) + 30_000) / 1e9)
    assert handler.put(content).status_code == 507
    assert handler.left == []


def test_abandoned_uploads_are_deleted(handler: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, part = handler.trainer.shared_workspace, b"PK\x03\x04 part"
    uploads = ArtifactUploads(workspace, RunStore(workspace.runs_database), UploadQuota(workspace, 0, 0))
    assert uploads.add("one", 0, part) == uploads.add("one", 0, part) == 9
    assert uploads.add("one", 5, b"paper") == 10
    with pytest.raises(ValueError, match="part must hold bytes from 10 on. Got 1 from 11"):
        uploads.add("one", 11, b"x")
    uploads.add("two", 0, part)
    assert len(handler.left) == 2
    monkeypatch.setattr(artifact_uploads, "FORGOTTEN", -1.0)
    uploads.add("three", 0, part)
    assert len(handler.left) == 1
    handler.restart()
    assert handler.left == [], "a trainer deletes all unfinished uploads when it starts"


def test_a_file_that_ends_early_ends_the_download(handler: Handler, tmp_path: Path) -> None:
    make_artifact(handler.folder(ONE), ONE, 5000)
    with open(handler.folder(ONE) / WEIGHTS, "r+b") as file:
        file.truncate(1000)
    with pytest.raises(httpx.RemoteProtocolError):
        handler.get(ONE)
    for reference, expected in ((TWO, "artifact must be published"), ("live", "a backbone"), ("%2e%2e", "Got '..'")):
        answer = handler.get(reference)
        assert answer.status_code == 404
        assert expected in answer.json()["detail"]


def test_the_hub_signs_a_url_of_the_same_zip(handler: Handler) -> None:
    make_artifact(handler.folder(ONE), ONE, 5000)
    content = handler.get(ONE).content
    rpc = f"{handler.http}/v2/rpc/artifact.getDownloadUrl"
    for answer in (plain_http.post(rpc, data={"id": ONE}), plain_http.get(rpc, params={"name": "made"})):
        data = answer.json()["data"]
        assert (data["_id"], data["type"]) == (ONE, "model")
        down = plain_http.get(data["download"])
        assert (down.content, down.headers["content-length"]) == (content, str(len(content)))
        assert plain_http.head(data["download"]).headers["content-length"] == str(len(content))
        assert plain_http.get(data["download"].replace(ONE, TWO)).status_code == 403
    handler.folder(ONE).rename(handler.folder(TWO))
    gone = plain_http.get(data["download"])
    assert (gone.status_code, "must be published" in gone.json()["detail"]) == (404, True)
    handler.folder(TWO).rename(handler.folder(ONE))
    assert plain_http.post(rpc, data={"id": TWO}).status_code == 404
