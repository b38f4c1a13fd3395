"""Artifacts as zips over HTTP: down, up, and zips that nobody should send."""

from __future__ import annotations

import io
import json
import logging
import socket
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from docarray import DocumentArray
from fastapi import FastAPI
from jina.types.request.data import DataRequest

import finetuner
from executors.gateway.access.metrics import GatewayMetrics
from executors.gateway.artifacts import routes as artifact_transfer
from executors.gateway.flow.rooms import Rooms
from executors.gateway.hub.hub import hub_routes
from executors.trainer import supervisor
from executors.trainer.artifacts import upload_checks as artifact_checks
from executors.trainer.artifacts import uploads as artifact_uploads
from executors.trainer.executor import Trainer
from finetuner.artifacts.manifest import MANIFEST, Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.config.run_config import RunConfig
from finetuner.contract import wire
from finetuner.inference.local import open_artifact
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TOWERS
from finetuner.models.clip_files import load_backbone
from tests.gateway.made_artifacts import WEIGHTS, make_artifact, seal, zipped
from tests.waiting import wait_until

ONE, TWO = "a" * 24, "b" * 24
ZIP = {"content-type": "application/zip"}


@dataclass
class Handler:
    """A gateway's handler whose only room is a trainer in this process."""

    trainer: Trainer
    http: str
    metrics: GatewayMetrics = field(default_factory=lambda: GatewayMetrics(None))
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("test"))
    parts: list[int] = field(default_factory=list)

    async def process_single_data(self, request: DataRequest, context: Any = None) -> DataRequest:
        endpoint, parameters = request.header.exec_endpoint, dict(request.parameters)
        docs = request.docs
        if len(docs):
            self.parts.append(len(docs[0].blob))
        answer = DataRequest()
        answer.header.exec_endpoint = endpoint
        if endpoint == wire.ARTIFACTS_PUSH:
            answer.data.docs = await self.trainer.push_artifact(docs=docs, parameters=parameters)
        else:
            room: Callable[..., DocumentArray] = {
                wire.ARTIFACTS_PULL: self.trainer.pull_artifact,
                wire.ARTIFACTS_LIST: self.trainer.list_artifacts,
                wire.DATASETS_LIST: self.trainer.list_datasets,
            }[endpoint]
            answer.data.docs = room(docs=docs, parameters=parameters)
        return answer

    def folder(self, artifact_id: str) -> Path:
        return self.trainer.shared_workspace.artifacts / artifact_id

    @property
    def left(self) -> list[str]:
        """What lies among the artifacts, uploads included."""
        found = self.trainer.shared_workspace.artifacts.rglob("*")
        return sorted(
            path.relative_to(self.trainer.shared_workspace.artifacts).as_posix() for path in found if path.is_file()
        )


@pytest.fixture
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Handler]:
    """The routes behind a real socket."""
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 3600)
    trainer = Trainer(workspace_url=str(tmp_path / "workspace"))
    listening = socket.create_server(("127.0.0.1", 0))
    handler, app = Handler(trainer, f"http://127.0.0.1:{listening.getsockname()[1]}"), FastAPI()
    app.state.handler, app.state.rooms = handler, Rooms(handler)  # type: ignore[arg-type]
    app.include_router(artifact_transfer.routes)
    app.include_router(hub_routes(handler, app.state.rooms))  # type: ignore[arg-type]
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield handler
    server.should_exit = True
    thread.join(60)
    trainer.close()


def put(handler: Handler, content: bytes, **headers: str) -> httpx.Response:
    return httpx.post(f"{handler.http}/v1/artifacts", content=content, headers={**ZIP, **headers}, timeout=60)


def get(handler: Handler, reference: str) -> httpx.Response:
    return httpx.get(f"{handler.http}/v1/artifacts/{reference}/zip", timeout=60)


def test_what_comes_down_goes_up_and_is_the_same_model(handler: Handler, tmp_path: Path) -> None:
    model = load_backbone(find_backbone("clip-mini"))
    manifest = Manifest(
        ONE, "tuned", "clip-mini", model.dim, [*TOWERS], {"after": {"recall": 0.5}}, {}, "2026-01-01", "0"
    )
    publish_artifact(handler.trainer.shared_workspace, model, manifest, {})
    wire.read_reply(handler.trainer.promote(parameters={"artifact": ONE})[0])
    down = get(handler, "live")
    assert down.headers["content-disposition"] == 'attachment; filename="tuned.zip"'
    assert int(down.headers["content-length"]) == len(down.content)
    head = httpx.head(f"{handler.http}/v1/artifacts/{ONE}/zip")
    assert (head.status_code, head.headers["content-length"]) == (200, down.headers["content-length"])
    (tmp_path / "tuned.zip").write_bytes(down.content)
    opened = open_artifact(tmp_path / "tuned.zip", 32, "clip-text", "cpu")
    assert finetuner.encode(opened, ["a red dress"]).shape == (1, model.dim)
    handler.folder(ONE).rename(tmp_path / "before")
    up = put(handler, down.content)
    assert up.status_code == 200
    assert up.json() == json.loads((tmp_path / "before" / MANIFEST).read_text())
    for path in (tmp_path / "before").rglob("*"):
        if path.is_file():
            name = path.relative_to(tmp_path / "before")
            assert (handler.folder(ONE) / name).read_bytes() == path.read_bytes()
    listed = wire.read_reply(handler.trainer.list_artifacts(parameters={})[0])
    assert [entry["artifact_id"] for entry in listed] == [ONE]


def test_parts_are_bounded_and_the_same_again_changes_nothing(
    handler: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "PIECE_BYTES", 100_000)
    content = zipped(make_artifact(tmp_path / "made", ONE, 1_000_000), tmp_path / "made.zip").read_bytes()
    assert put(handler, content).status_code == 200
    there = {path: path.stat().st_mtime_ns for path in handler.folder(ONE).rglob("*")}
    assert put(handler, content).json()["artifact_id"] == ONE
    assert {path: path.stat().st_mtime_ns for path in handler.folder(ONE).rglob("*")} == there
    assert set(handler.parts[:10]) == {100_000}
    assert sum(handler.parts) == 2 * len(content)
    with zipfile.ZipFile(io.BytesIO(get(handler, ONE).content)) as archive:
        assert archive.testzip() is None
        assert archive.read(f"made/{WEIGHTS}") == (tmp_path / "made" / WEIGHTS).read_bytes()


def test_a_zip_made_elsewhere_may_be_deflated_and_have_folders(handler: Handler, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "made", ONE)
    with zipfile.ZipFile(tmp_path / "made.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in [folder, *sorted(folder.rglob("*"))]:
            archive.write(path, f"any name/{path.relative_to(folder).as_posix()}")
    answer = put(handler, (tmp_path / "made.zip").read_bytes())
    assert (answer.status_code, answer.json()["run_name"]) == (200, "made")


def member(name: str, mode: int = 0o644, **values: int) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr = mode << 16
    for key, value in values.items():
        setattr(made, key, value)
    return made


BAD_MEMBERS: dict[str, tuple[zipfile.ZipInfo | str, bytes, str]] = {
    "dots": ("made/../../../outside.json", b"{}", r"must lie inside its folder. Got 'made/\.\./"),
    "dots first": ("../outside.json", b"{}", "must lie inside its folder"),
    "absolute": ("/etc/cron.d/job.yml", b"x", "must lie inside its folder. Got '/etc"),
    "drive": ("made/C:x.yml", b"x", "must lie inside its folder"),
    "backslash": ("made\\..\\x.yml", b"x", "must lie inside its folder"),
    "link": (member("made/link.json", stat.S_IFLNK | 0o777), b"/etc/passwd", "must hold plain files. Got 'made/link"),
    "device": (member("made/null.json", stat.S_IFCHR | 0o666), b"", "a link or device"),
    "pickle": ("made/models/clip-text/weights.pt", b"\x80\x04.", "no pickle is ever opened. Got 'made/models/clip"),
    "script": ("made/setup.py", b"import os", "Got 'made/setup.py'. Leave it out"),
    "not listed": ("made/models/more.json", b"{}", "only the files that its manifest.json lists. Got 'models/more.json'"),
    "two tops": ("other/config.yml", b"x", "one folder at its top"),
    "bomb": (member("made/zeros.json", compress_type=zipfile.ZIP_DEFLATED), bytes(2**23), "50 times its zip. Got 83"),
    "bzip2": (member("made/b.json", compress_type=zipfile.ZIP_BZIP2), b"x", "stored or deflated, not encrypted"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", [*BAD_MEMBERS, "twice"])
def test_a_zip_with_a_bad_member_leaves_nothing(kind: str, handler: Handler, tmp_path: Path) -> None:
    name, content, expected = BAD_MEMBERS.get(kind, ("made/config.yml", b"x", "each file once"))
    path = zipped(make_artifact(tmp_path / "made", ONE), tmp_path / "made.zip", {name: content})
    refused(handler, path.read_bytes(), expected)
    assert not (tmp_path / "outside.json").exists()


def refused(handler: Handler, content: bytes, expected: str) -> None:
    answer = put(handler, content)
    assert answer.status_code == 422, answer.text
    with pytest.raises(AssertionError, match=expected):
        raise AssertionError(answer.json()["detail"])
    assert str(handler.trainer.shared_workspace.root) not in answer.json()["detail"]
    assert handler.left == []


def test_what_is_no_zip_leaves_nothing(handler: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = zipped(make_artifact(tmp_path / "made", ONE, 5000), tmp_path / "made.zip").read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"models/clip-text/weights") + 2000] ^= 1
    start = whole.index(b"PK\x01\x02")
    encrypted = whole[: start + 8] + b"\x01" + whole[start + 9 :]
    for content, expected in (
        (b"", "part must hold bytes from 0 on. Got 0"),
        (b"\x80\x04.", r"artifact must be a zip of at most .* bytes. Got 3, the first of them b'\\x80"),
        (b"PK\x03\x04" + bytes(100), "artifact must be a zip. Got another file, or a part of one: File is not a zip"),
        (whole[:-30], "a part of one"),
        (whole[2000:], "artifact must be a zip"),
        (bytes(flipped), "Bad CRC-32 for file 'made/models"),
        (encrypted, "not encrypted"),
        (zipped(tmp_path / "nothing", tmp_path / "empty.zip", {"made/config.yml": b"x"}).read_bytes(), "Got 0"),
    ):
        refused(handler, content, expected)
    with monkeypatch.context() as patch:
        patch.setattr(artifact_checks, "MAX_LIST_BYTES", 100)
        refused(handler, whole, "list of files has .* bytes, of 100 allowed")
    with monkeypatch.context() as patch:
        patch.setattr(artifact_checks, "MAX_FILES", 1)
        refused(handler, whole, "at most 1 files. Got 3")
    with monkeypatch.context() as patch:
        patch.setattr(artifact_uploads, "MAX_ZIP_BYTES", 1000)
        refused(handler, whole, "a zip of at most 1000 bytes")
    monkeypatch.setattr(artifact_transfer, "MAX_TOTAL_BYTES", 1000)
    assert put(handler, whole).status_code == 413
    assert put(handler, whole, **{"content-type": "multipart/form-data; boundary=x"}).status_code == 422


@pytest.mark.parametrize(
    "fields",
    [
        {"artifact_id": "../../aliases"},
        {"artifact_id": "live"},
        {"artifact_id": 5},
        {"run_name": 'a"\r\nset-cookie: x'},
        {"run_name": ["made"]},
        {"backbone": ""},
        {"output_dim": -1},
        {"towers": []},
        {"towers": "clip-text"},
        {"towers": ["clip-vision"]},
        {"towers": ["../.."]},
        {"metrics": {"after": 1}},
        {"metrics": {"after": {"recall": "high"}}},
        {"data": {"train": 5}},
        {"created_at": 17},
        {"created_at": "yesterday"},
        {"code_version": None},
        {"parent": "a\nb"},
    ],
    ids=str,
)
def test_a_manifest_that_would_trouble_others_is_refused(
    fields: dict[str, Any], handler: Handler, tmp_path: Path
) -> None:
    path = zipped(make_artifact(tmp_path / "made", **{"artifact_id": ONE, **fields}), tmp_path / "made.zip")
    refused(handler, path.read_bytes(), f"Got a wrong {next(iter(fields))}")


def test_files_that_differ_from_the_manifest_or_are_no_safetensors_are_refused(
    handler: Handler, tmp_path: Path
) -> None:
    folder = make_artifact(tmp_path / "made", ONE)
    (folder / "config.yml").write_text("model: clip-maxi\n")
    refused(handler, zipped(folder, tmp_path / "made.zip").read_bytes(), "config.yml differs from the manifest")
    for content in (b"\x80\x04.", (2**60).to_bytes(8, "little") + b"{}", (5).to_bytes(8, "little") + b"{}"):
        (folder / WEIGHTS).write_bytes(content)
        seal(folder, ONE)
        refused(handler, zipped(folder, tmp_path / "made.zip").read_bytes(), "weights.safetensors must be safetensors")
    (folder / WEIGHTS).unlink()
    refused(handler, zipped(folder, tmp_path / "made.zip").read_bytes(), "artifact must be a zip that save_artifact")


def test_an_id_that_is_taken_stays_what_it_is(handler: Handler, tmp_path: Path) -> None:
    first = zipped(make_artifact(tmp_path / "first", ONE), tmp_path / "first.zip")
    other = zipped(make_artifact(tmp_path / "other", ONE), tmp_path / "other.zip")
    assert put(handler, first.read_bytes()).status_code == 200
    before = handler.left
    taken = put(handler, other.read_bytes())
    assert taken.status_code == 409
    assert taken.json()["detail"] == f"artifact id must be new. Got {ONE}, which has other content here."
    run = handler.trainer._store.create(RunConfig(model="clip-mini", train_data="pairs"), {})
    mine = zipped(make_artifact(tmp_path / "mine", run.artifact_id), tmp_path / "mine.zip")
    assert put(handler, mine.read_bytes()).json()["detail"].endswith("which belongs to a run of this Flow.")
    assert handler.left == before


def test_a_caller_that_hangs_up_leaves_nothing(
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
    assert put(handler, content).status_code == 200


def test_uploads_that_nobody_goes_on_with_are_swept(
    handler: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads, part = handler.trainer._uploads, b"PK\x03\x04 part"
    assert uploads.add("one", 0, part) == uploads.add("one", 0, part) == 9
    assert uploads.add("one", 5, b"paper") == 10
    with pytest.raises(ValueError, match="part must hold bytes from 10 on. Got 1 from 11"):
        uploads.add("one", 11, b"x")
    uploads.add("two", 0, part)
    assert len(handler.left) == 2
    monkeypatch.setattr(artifact_uploads, "FORGOTTEN", -1.0)
    uploads.add("three", 0, part)
    assert len(handler.left) == 1
    artifact_uploads.ArtifactUploads(handler.trainer.shared_workspace, handler.trainer._store)
    assert handler.left == [], "a trainer that starts knows that nobody goes on"


def test_a_file_that_ends_early_ends_the_download(handler: Handler, tmp_path: Path) -> None:
    make_artifact(handler.folder(ONE), ONE, 5000)
    with open(handler.folder(ONE) / WEIGHTS, "r+b") as file:
        file.truncate(1000)
    with pytest.raises(httpx.RemoteProtocolError):
        get(handler, ONE)
    for reference, expected in ((TWO, "artifact must be published"), ("live", "a backbone"), ("%2e%2e", "Got '..'")):
        answer = get(handler, reference)
        assert answer.status_code == 404
        assert expected in answer.json()["detail"]


def test_the_hub_gives_a_signed_address_of_the_same_zip(handler: Handler) -> None:
    make_artifact(handler.folder(ONE), ONE, 5000)
    content = get(handler, ONE).content
    rpc = f"{handler.http}/v2/rpc/artifact.getDownloadUrl"
    for answer in (httpx.post(rpc, data={"id": ONE}), httpx.get(rpc, params={"name": "made"})):
        data = answer.json()["data"]
        assert (data["_id"], data["type"]) == (ONE, "model")
        down = httpx.get(data["download"])
        assert (down.content, down.headers["content-length"]) == (content, str(len(content)))
        assert httpx.head(data["download"]).headers["content-length"] == str(len(content))
        assert httpx.get(data["download"].replace(ONE, TWO)).status_code == 403
    handler.folder(ONE).rename(handler.folder(TWO))
    gone = httpx.get(data["download"])
    assert (gone.status_code, "must be published" in gone.json()["detail"]) == (404, True)
    handler.folder(TWO).rename(handler.folder(ONE))
    assert httpx.post(rpc, data={"id": TWO}).status_code == 404
