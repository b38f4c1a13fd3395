"""Files that become datasets: as a form, and by tus; what the server refuses to read; reports on datasets."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from finetuner.catalogue import fashion
from finetuner.contract import wire
from finetuner.executors.gateway.rest import v1_uploads
from finetuner.executors.trainer.uploads import files
from tests.client.sources.made_shards import parquet, tar
from tests.gateway.rest.conftest import Handler

pytestmark = [pytest.mark.process, pytest.mark.seconds]
TUS = {"Tus-Resumable": "1.0.0"}


def packed(content: dict[str, bytes | str]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, blob in content.items():
            archive.writestr(name, blob)
    return target.getvalue()


def bomb() -> bytes:
    """A zip that says of itself that it unpacks to 3 GiB."""
    content = bytearray(packed({"table.csv": "image,text"}))
    at = content.rindex(b"PK\x01\x02") + 24
    content[at : at + 4] = (3 * 2**30).to_bytes(4, "little")
    return bytes(content)


@pytest.fixture(scope="module")
def jpeg() -> Callable[[int], bytes]:
    images = [image.jpeg for image in fashion("train", items=4)]
    return images.__getitem__


@pytest.fixture
def shop(jpeg: Callable[[int], bytes]) -> bytes:
    rows = "".join(f"photos/{number}.jpg,image {number}\n" for number in range(3))
    images: dict[str, bytes | str] = {f"photos/{number}.jpg": jpeg(number) for number in range(3)}
    return packed({"table.csv": f"image,text\n{rows}", **images})


def post(handler: Handler, name: str, file: str, content: bytes, **query: str) -> httpx.Response:
    return handler.client.post(f"{handler.http}/v1/datasets/{name}", files={"file": (file, content)}, params=query)


def left(handler: Handler) -> list[Path]:
    """What is left of uploads."""
    return [*(handler.trainer.shared_workspace.datasets / "uploads").glob("*")]


def test_a_zip_becomes_a_dataset_with_a_report(handler: Handler, shop: bytes) -> None:
    stored = post(handler, "shop", "My shop.ZIP", shop)
    assert stored.status_code == 200, stored.text
    found = stored.json()
    assert (found["name"], found["documents"], found["kind"], found["left_out"]) == ("shop", 3, "pairs", [])
    assert not left(handler)
    report = handler.client.get(f"{handler.http}/v1/datasets/shop/stats", params={"model": "clip-mini", "eval": "shop"})
    assert report.status_code == 200, report.text
    assert report.json()["statistics"]["captions"]["tokens"]["model"] == "clip-mini"
    assert report.json()["overlap"]["images"] == 3
    assert any("evaluation data in the training data: 3" in line for line in report.json()["troubles"])
    again = handler.client.get(f"{handler.http}/v1/datasets/shop/stats", params={"model": "clip-mini", "eval": "shop"})
    assert again.json() == report.json()
    unknown = handler.client.get(f"{handler.http}/v1/datasets/none/stats")
    assert unknown.status_code == 404


@pytest.mark.slow
def test_parquet_tar_and_jsonl_become_datasets(handler: Handler, tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    table = parquet(tmp_path / "a.parquet", {"foto": [jpeg(0), jpeg(1)], "titel": ["a", "b"]}).read_bytes()
    columns = {"columns": json.dumps({"image": "foto", "text": "titel"})}
    assert post(handler, "parquet", "a.parquet", table, **columns).json()["documents"] == 2
    shard = tar(tmp_path / "a.tar", [("0.jpg", jpeg(0)), ("0.txt", b"a"), ("1.jpg", jpeg(1))]).read_bytes()
    skipped = post(handler, "tar", "a.tar", shard, on_error="skip").json()
    assert skipped["documents"] == 1
    assert "left out 1 entries" in skipped["left_out"][0] or "passed over" in skipped["left_out"][0]
    uri = "data:image/jpeg;base64," + base64.b64encode(jpeg(0)).decode()
    line = json.dumps({"image": uri, "label": "dress"}).encode()
    labelled = post(handler, "labelled", "a.jsonl", line, **{"as": "labelled"})
    assert labelled.json()["kind"] == "labelled", labelled.text


def rows(*images: str) -> bytes:
    return ("image,text\n" + "".join(f"{image},a text\n" for image in images)).encode()


@pytest.mark.parametrize(
    ("file", "content", "query", "status", "message"),
    [
        ("a.csv", rows("/etc/passwd"), {}, 422, "line 2: image must be a file or a URI. Got '/etc/passwd'"),
        ("a.csv", rows("../../runs.sqlite"), {}, 422, "line 2: image must be a file or a URI"),
        ("a.csv", rows("file:///etc/hostname"), {}, 422, "line 2: "),
        ("a.csv", rows("http://127.0.0.1:1/a.jpg"), {}, 422, "image must lie in the file itself"),
        ("a.csv", rows("https://example.com/a.jpg"), {}, 422, "image must lie in the file itself"),
        ("a.csv", rows("s3://bucket/a.jpg"), {}, 422, "line 2: image must be a file or a URI. Got 's3://bucket"),
        ("a.jsonl", b'{"image": "hf://datasets/a/b/c.jpg", "text": "a"}', {}, 422, "image must be a file or a URI"),
        ("a.parquet", b"this is no parquet", {}, 422, "parquet file must be readable. Got 'upload.parquet'"),
        ("a.zip", b"this is no zip", {}, 422, "archive must be whole"),
        ("a.zip", packed({"../out.jpg": b"1"}), {}, 422, "archive must have names that stay below its folder"),
        ("a.zip", bomb(), {}, 422, "archive must have at most"),
        ("a.csv", b"photo,text\na.jpg,b\n", {"columns": '{"image": "foto"}'}, 422, "foto"),
        ("a.csv", rows("a.jpg"), {"columns": '{"picture": "foto"}'}, 422, "columns must be of image, text"),
        ("a.csv", rows("a.jpg"), {"columns": "[1"}, 422, "must be JSON"),
        ("a.csv", rows("a.jpg"), {"as": "photos"}, 422, "as"),
        ("a.exe", b"MZ", {}, 422, "file must end in .csv"),
        ("s3://bucket/a", b"1", {}, 422, "file must end in .csv"),
        ("a.csv", b"", {}, 422, "form must have a part 'file' with content"),
    ],
)
def test_bad_files_leave_nothing(
    handler: Handler, file: str, content: bytes, query: dict[str, str], status: int, message: str
) -> None:
    refused = post(handler, "bad", file, content, **query)
    assert refused.status_code == status, refused.text
    assert message in refused.json()["detail"]
    assert str(handler.trainer.shared_workspace.root) not in refused.text
    assert not left(handler)
    assert handler.client.get(f"{handler.http}/v1/datasets").json()["items"] == []


def test_a_link_in_a_tar_file_is_refused(handler: Handler) -> None:
    import tarfile

    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo("photos/a.jpg")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
        table = tarfile.TarInfo("table.csv")
        table.size = len(rows("photos/a.jpg"))
        archive.addfile(table, io.BytesIO(rows("photos/a.jpg")))
    refused = post(handler, "bad", "a.tar", target.getvalue())
    assert (refused.status_code, left(handler)) == (422, [])
    assert "archive must have files and folders alone" in refused.json()["detail"]


def begin(handler: Handler, length: int, headers: dict[str, str] = TUS, **metadata: str) -> httpx.Response:
    given = {"dataset": "shop", "filename": "shop.zip"} | metadata
    text = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in given.items() if value)
    headers = headers | {"Upload-Length": str(length), "Upload-Metadata": text}
    return handler.client.post(f"{handler.http}/v1/uploads", headers=headers)


def patch(handler: Handler, where: str, offset: int, content: bytes) -> httpx.Response:
    headers = TUS | {"Upload-Offset": str(offset), "Content-Type": v1_uploads.BYTES}
    return handler.client.patch(f"{handler.http}{where}", headers=headers, content=content)


def offset(handler: Handler, where: str) -> int:
    return int(handler.client.head(f"{handler.http}{where}", headers=TUS).headers["Upload-Offset"])


def test_an_upload_is_resumed_and_completed(handler: Handler, shop: bytes) -> None:
    began = begin(handler, len(shop))
    assert began.status_code == 201, began.text
    where = began.headers["Location"]
    assert patch(handler, where, 0, shop[:100]).headers["Upload-Offset"] == "100"
    handler.restart()
    assert offset(handler, where) == 100
    early = handler.client.post(f"{handler.http}{where}/complete")
    assert (early.status_code, "Got 100. Send what is missing" in early.text) == (422, True)
    assert patch(handler, where, 50, shop[50:]).status_code == 409
    assert patch(handler, where, 100, shop[100:] + b"more").status_code == 413
    assert patch(handler, where, 100, shop[100:]).status_code == 204
    done = handler.client.post(f"{handler.http}{where}/complete")
    assert (done.status_code, done.json()["documents"]) == (200, 3), done.text
    assert handler.client.head(f"{handler.http}{where}").status_code == 404
    assert not left(handler)


def test_rows_are_added_behind_those_of_a_dataset(handler: Handler, shop: bytes) -> None:
    versions = []
    for append in (False, True):
        where = begin(handler, len(shop)).headers["Location"]
        patch(handler, where, 0, shop)
        assert handler.client.post(f"{handler.http}{where}/preview", json={"append": append}).status_code == 200
        versions.append(handler.client.post(f"{handler.http}{where}/complete").json())
    assert [each["documents"] for each in versions] == [3, 6]
    assert versions[1]["before"] == versions[0]["version"], "the way back"


def test_an_upload_is_looked_at_before_it_is_stored(handler: Handler, jpeg: Callable[[int], bytes]) -> None:
    def look(**asked: Any) -> httpx.Response:
        return handler.client.post(f"{handler.http}{where}/preview", json=asked)

    photos: dict[str, bytes | str] = {f"{number}.jpg": jpeg(number) for number in range(3)}
    table = "image,title,foto\n" + "".join(f"{number}.jpg,image {number},x\n" for number in range(4))
    content = packed({"table.csv": table, **photos})
    where = begin(handler, len(content)).headers["Location"]
    early = look()
    assert (early.status_code, "Send what is missing" in early.text) == (422, True)
    patch(handler, where, 0, content)
    refused = look(columns={"image": "foto"})  # as 'x', which is no image
    assert refused.status_code == 422, refused.text
    assert look(**{"as": "labelled"}).status_code == 422
    assert "columns must be of" in look(columns={"picture": "foto"}).json()["detail"]
    assert look(colour="red").status_code == 422
    shown = look()
    assert shown.status_code == 200, shown.text
    found = shown.json()
    assert (found["documents"], found["kinds"], len(found["first"])) == (3, {"pairs": 3}, 3)
    assert "text is column 'title'; not read: foto" in found["notes"][0]
    assert "line 5: " in found["left_out"][0]
    assert str(handler.trainer.shared_workspace.root) not in shown.text
    texts = [part.get("text") for part in found["first"][0]["chunks"]]
    images = [base64.b64decode(part["blob"]) for part in found["first"][0]["chunks"] if "blob" in part]
    assert "image 0" in texts
    assert images[0].startswith(b"\xff\xd8")
    assert handler.client.get(f"{handler.http}/v1/datasets").json()["items"] == []
    handler.restart()
    (folder,) = left(handler)
    (folder / "request.json").unlink()
    assert look(dataset="../shop").status_code == 422
    assert look(dataset="spring").json() == found
    assert not (folder / "request.json").exists(), "the file is read once"
    stored = handler.client.post(f"{handler.http}{where}/complete")
    assert stored.json()["name"] == "spring"
    assert (stored.json()["documents"], stored.json()["left_out"]) == (3, found["left_out"])
    assert not left(handler)


def test_tus_is_described_and_its_errors_are_named(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    described = handler.client.options(f"{handler.http}/v1/uploads")
    assert described.headers["Tus-Extension"] == "creation,termination"
    assert begin(handler, 5, headers={}).status_code == 412
    assert begin(handler, wire.MAX_FILE_BYTES + 1).status_code == 413
    assert "dataset name" in begin(handler, 5, dataset="").json()["detail"]
    assert "file must end in" in begin(handler, 5, filename="").json()["detail"]
    assert "Upload-Metadata must have" in begin(handler, 5, colour="red").json()["detail"]
    monkeypatch.setattr(files, "MAX_UNFINISHED", 1)
    where = begin(handler, 5).headers["Location"]
    full = begin(handler, 5)
    assert (full.status_code, "Complete or delete one" in full.text) == (429, True)
    assert handler.client.delete(f"{handler.http}{where}").status_code == 204
    assert not left(handler)


def test_a_quota_holds_for_files_too(handler: Handler, shop: bytes) -> None:
    handler.restart(upload_quota_gb=len(shop) / 2e9)
    refused = post(handler, "shop", "shop.zip", shop)
    assert (refused.status_code, left(handler)) == (507, []), refused.text
    handler.restart(min_free_mb=1e9)
    assert begin(handler, 5).status_code == 507


def test_an_upload_belongs_to_its_token(handler: Handler) -> None:
    described = files.Upload("shop", "a.csv", 5)
    uploads = handler.trainer._files
    uploads.begin("x", described, "ann")
    calls: list[Callable[[], Any]] = [
        lambda: uploads.state("x", "bob"),
        lambda: uploads.add("x", 0, b"1", "bob"),
        lambda: uploads.complete("x", "bob"),
    ]
    for call in calls:
        with pytest.raises(LookupError, match="upload must be one that you have begun"):
            call()
    uploads.forget("x", "bob")
    assert uploads.state("x", "ann") == {"offset": 0, "length": 5}
