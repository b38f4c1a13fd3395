"""Data in a real S3: files, folders, wildcards, archives, and what is refused."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetuner.documents.pairs import read_pair
from finetuner.exceptions import DatasetNotFound, InvalidDocument, InvalidInput
from finetuner.sources.kinds import documents_from
from finetuner.sources.places import fetched
from tests.client.sources.made_shards import parquet
from tests.client.sources.places.s3_server import S3Server, s3_server

pytestmark = [pytest.mark.process, pytest.mark.seconds]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, blobs: list[bytes]) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("s3")
    with s3_server(folder) as server:
        fill(server, folder, blobs)
        yield server


@pytest.fixture(scope="module")
def blobs() -> list[bytes]:
    from finetuner.catalogue import fashion

    return [image.jpeg for image in fashion("train", items=2)][:4]


def fill(server: S3Server, folder: Path, blobs: list[bytes]) -> None:
    rows = {"image": blobs, "text": [f"image {number}" for number in range(len(blobs))]}
    parquet(folder / "a.parquet", rows)
    parquet(folder / "b.parquet", {"image": blobs[:1], "text": ["once more"]})
    with zipfile.ZipFile(folder / "out.zip", "w") as archive:
        archive.writestr("../../out.jpg", blobs[0])
    table = "image,text\n" + "".join(f"photos/{number}.jpg,image {number}\n" for number in range(len(blobs)))
    server.files.mkdir("shop")
    content: dict[str, bytes] = {
        "parts/a.parquet": (folder / "a.parquet").read_bytes(),
        "parts/b.parquet": (folder / "b.parquet").read_bytes(),
        "fake.parquet": b"this is a text",
        "out.zip": (folder / "out.zip").read_bytes(),
        "catalogue/table.csv": table.encode(),
        "splits/train-0.parquet": (folder / "a.parquet").read_bytes(),
        "splits/test-0.parquet": (folder / "b.parquet").read_bytes(),
        "outside.csv": b"image,text\n/etc/hostname,a name\n",
    }
    content |= {f"catalogue/photos/{number}.jpg": blob for number, blob in enumerate(blobs)}
    for name, blob in content.items():
        server.files.pipe(f"shop/{name}", blob)


@pytest.fixture(autouse=True)
def keys(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


def texts(source: Any, task: str = "text-to-image", **options: Any) -> list[str]:
    return [read_pair(document).text for document in documents_from(source, task=task, **options)]


IMAGES = [f"image {number}" for number in range(4)]


def test_files_folders_and_wildcards_are_read(server: S3Server) -> None:
    assert texts("s3://shop/parts/a.parquet") == IMAGES
    assert texts("s3://shop/parts") == texts("s3://shop/parts/*.parquet") == [*IMAGES, "once more"]
    assert texts("s3://shop/parts/{b,a}.parquet") == ["once more", *IMAGES]
    assert texts(["s3://shop/parts/b.parquet"]) == ["once more"]
    assert texts("s3://shop/catalogue/") == IMAGES
    assert texts("s3://shop/parts/a.parquet", columns={"image": "image", "text": "text"}) == IMAGES


def test_nothing_stays_on_the_disk(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    texts("s3://shop/catalogue")
    with pytest.raises(InvalidInput):
        texts("s3://shop/fake.parquet")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("s3://shop/none.parquet", DatasetNotFound, "Got 's3://shop/none.parquet', where nothing is"),
        ("s3://shop/none-*.parquet", DatasetNotFound, "where nothing is"),
        ("s3://no-such-bucket/a.parquet", DatasetNotFound, "no such bucket"),
        ("s3://shop/fake.parquet", InvalidInput, "parquet file must be readable"),
        ("s3://shop/out.zip", InvalidInput, "archive must have names that stay below its folder"),
        ("s3://shop/splits", InvalidInput, "data must be one split. Got test, train in 's3://shop/splits'"),
        ("s3://shop/outside.csv", InvalidDocument, "image must be a file or a URI. Got '/etc/hostname'"),
        (["s3://shop/parts/a.parquet", "b.parquet"], InvalidInput, "must be all on this machine or all elsewhere"),
    ],
)
def test_bad_addresses_are_refused(source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        texts(source)


def test_a_missing_package_is_named_with_the_extra_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    message = r"gs:// needs the packages fsspec and gcsfs. Got no gcsfs. .*pip install 'open-finetuner\[places\]'"
    with pytest.raises(InvalidInput, match=message):
        texts("gs://shop/a.parquet")


def test_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidInput, match="foto"):
        texts("s3://shop/parts/a.parquet", columns={"image": "foto", "text": "text"})


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "refuses them .* Set the environment variables: AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "data must be readable with your credentials"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "data must be reachable. Got no good answer for 's3://shop/"),
    ],
)
def test_wrong_keys_and_endpoints_are_named(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=message):
        texts("s3://shop/parts/a.parquet")


@pytest.mark.parametrize(("limit", "most"), [("MAX_BYTES", 100), ("MAX_FILES", 1), ("KEPT_FREE", 2**60)])
def test_bounds_hold_before_anything_is_fetched(limit: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched, limit, most)
    monkeypatch.setattr(fetched.Fetched, "_fetch", None)
    with pytest.raises(InvalidInput, match="data of another place must (have at most|fit on the disk)"):
        texts("s3://shop/parts")
