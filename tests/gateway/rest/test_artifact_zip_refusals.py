"""Uploads that are not a valid artifact: all are refused, and leave nothing in the workspace."""

from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from finetuner.executors.gateway.rest import v1_artifact_zip
from finetuner.executors.trainer.artifacts import upload_checks as artifact_checks
from finetuner.executors.trainer.artifacts import uploads as artifact_uploads
from tests.gateway.made_artifacts import WEIGHTS, make_artifact, seal, zipped
from tests.gateway.rest.conftest import Handler

ONE = "a" * 24


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
    "not listed": (
        "made/models/more.json",
        b"{}",
        "only the files that its manifest.json lists. Got 'models/more.json'",
    ),
    "two tops": ("other/config.yml", b"x", "one folder at its top"),
    "bomb": (member("made/zeros.json", compress_type=zipfile.ZIP_DEFLATED), bytes(2**23), "50 times its zip. Got 84"),
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
    answer = handler.put(content)
    assert answer.status_code == 422, answer.text
    with pytest.raises(AssertionError, match=expected):
        raise AssertionError(answer.json()["detail"])
    assert str(handler.trainer.shared_workspace.root) not in answer.json()["detail"]
    assert handler.left == []


def test_an_invalid_zip_leaves_nothing(handler: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        refused(handler, whole, "at most 1 files. Got 6")
    with monkeypatch.context() as patch:
        patch.setattr(artifact_uploads, "MAX_ZIP_BYTES", 1000)
        refused(handler, whole, "a zip of at most 1000 bytes")
    monkeypatch.setattr(v1_artifact_zip, "MAX_TOTAL_BYTES", 1000)
    assert handler.put(whole).status_code == 413
    assert handler.put(whole, **{"content-type": "multipart/form-data; boundary=x"}).status_code == 422


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
        {"towers": ["clip-audio"]},
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
def test_an_invalid_manifest_is_refused(fields: dict[str, Any], handler: Handler, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        (
            "models/open_clip_config.json",
            {"width": 8192},
            "weights in the zip/models must fit its config",
        ),
        ("models/open_clip_config.json", {"layers": 10**6}, "Got a config of more (modules|tensors|numbers) than"),
        ("models/open_clip_config.json", {"image_size": 10**5}, r"image_size must be .* \[1, 1024\]. Got 100000"),
        ("models/tokenizer.json", {}, "tokenizer.json must be a tokenizer"),
        ("models/clip-text/model.onnx", {}, "must be a model whose sizes are known from the file"),
    ],
)
def test_models_of_other_sizes_than_they_promise_are_refused(
    file: str, change: dict[str, int], expected: str, handler: Handler, tmp_path: Path
) -> None:
    folder = make_artifact(tmp_path / "made", ONE)
    content = json.loads((folder / file).read_text()) if change else {}
    if change:
        content["model_cfg"]["vision_cfg"].update(change)
    (folder / file).write_text(json.dumps(content))
    seal(folder, ONE)
    refused(handler, zipped(folder, tmp_path / "made.zip").read_bytes(), expected)


def test_an_embedding_size_other_than_the_models_is_refused(handler: Handler, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "made", ONE, output_dim=5)
    refused(handler, zipped(folder, tmp_path / "made.zip").read_bytes(), "output_dim must be 4, .*. Got 5")
