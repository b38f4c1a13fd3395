"""Data of the hub's file layout, and of a web server, by a stand-in for both."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finetuner.documents.pairs import read_pair
from finetuner.exceptions import DatasetNotFound, InvalidInput
from finetuner.sources.kinds import documents_from
from finetuner.sources.places import fetched
from tests.client.sources.made_shards import parquet
from tests.client.sources.places.hub_server import TOKEN, HubServer, hub_server

IMAGES = ["image 0", "image 1", "image 2"]


@pytest.fixture
def server(tmp_path: Path, jpeg: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    blobs = [jpeg(number) for number in range(3)]
    table = parquet(tmp_path / "a.parquet", {"image": blobs, "text": IMAGES}).read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("photos.csv", "image,text\n" + "".join(f"{n}.jpg,{text}\n" for n, text in enumerate(IMAGES)))
        for number, blob in enumerate(blobs):
            archive.writestr(f"{number}.jpg", blob)
    files = {
        "README.md": b"---\nlicense: mit\n---\n",
        ".gitattributes": b"*.parquet filter=lfs\n",
        "data/train-00000-of-00001.parquet": table,
        "data/test-00000-of-00001.parquet": table,
        "photos/metadata.csv": b"file_name,text\n0.jpg,image 0\n",
        "photos/0.jpg": blobs[0],
        "shop.zip": packed.getvalue(),
        "page.parquet": b"<!DOCTYPE html><html></html>",
    }
    monkeypatch.setenv("HF_TOKEN", "")
    with hub_server(files) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def texts(source: Any) -> list[str]:
    return [read_pair(document).text for document in documents_from(source, task="text-to-image")]


def test_a_data_set_of_the_hub_is_read(server: HubServer) -> None:
    assert texts("hf://datasets/me/shop/data/train-00000-of-00001.parquet") == IMAGES
    assert texts("hf://datasets/me/shop/data/train-*.parquet") == IMAGES
    assert texts("hf://datasets/me/shop@main/data/test-*.parquet") == IMAGES
    assert texts("hf://datasets/me/shop/photos") == ["image 0"]
    assert texts("hf://datasets/me/shop@main/photos") == ["image 0"]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (
            "hf://datasets/me/shop",
            InvalidInput,
            "one split. Got test, train in 'hf://datasets/me/shop'. Pass",
        ),
        ("hf://datasets/me/none/a.parquet", DatasetNotFound, "where nothing is: no such bucket, data set or file"),
        ("hf://datasets/me/shop/none.parquet", DatasetNotFound, "where nothing is"),
        ("hf://datasets/me/secret/shop.zip", InvalidInput, "credentials. .* Set the environment variables: HF_TOKEN"),
        ("hf://me/shop/a.parquet", InvalidInput, "must be at hf://datasets/USER/NAME/"),
        ("hf://datasets/me/shop/page.parquet", InvalidInput, "parquet file must be readable"),
        ("ftp://me/shop.zip", InvalidInput, "must be local, or at hf://.* Got 'ftp://me/shop.zip'"),
    ],
)
def test_bad_addresses_of_the_hub_are_refused(
    server: HubServer, source: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        texts(source)


def test_a_token_of_the_environment_is_sent(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert texts("hf://datasets/me/secret/shop.zip") == IMAGES


def test_a_file_of_a_web_server_is_read(server: HubServer) -> None:
    assert texts(f"{server.url}/shop.zip?signature=x") == IMAGES
    assert texts(f"{server.url}/data/{{train,test}}-00000-of-00001.parquet") == [*IMAGES, *IMAGES]
    with pytest.raises(DatasetNotFound, match="Got 'http://127.0.0.1:[0-9]+/none.zip', where nothing is"):
        texts(f"{server.url}/none.zip?signature=secret")
    with pytest.raises(InvalidInput, match="parquet file must be readable"):
        texts(f"{server.url}/page.parquet")
    with pytest.raises(InvalidInput, match="must lead to a file"):
        texts(f"{server.url}/")
    with pytest.raises(InvalidInput, match="data must be reachable"):
        texts("http://127.0.0.1:9/shop.zip")


def test_a_file_of_unknown_size_is_bounded_while_it_arrives(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched, "_size_of", lambda *_: None)
    monkeypatch.setattr(fetched, "MAX_BYTES", 100)
    with pytest.raises(InvalidInput, match="at most 100000 files and 100 bytes. Got more"):
        texts(f"{server.url}/shop.zip")
