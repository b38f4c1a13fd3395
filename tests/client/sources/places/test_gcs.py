"""Data at gs:// is read through gcsfs, from a stand-in of its API. gcsfs is no dependency of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetuner.catalogue import fashion
from finetuner.documents.pairs import read_pair
from finetuner.exceptions import DatasetNotFound, InvalidInput
from finetuner.sources.kinds import documents_from
from tests.client.sources.made_shards import parquet
from tests.client.sources.places.gcs_server import started_store

pytestmark = pytest.mark.seconds
IMAGES = [f"image {number}" for number in range(4)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    blobs = [image.jpeg for image in fashion("train", items=2)][:4]
    file = tmp_path_factory.mktemp("gcs") / "a.parquet"
    parquet(file, {"image": blobs, "text": IMAGES})
    table = "image,text\n" + "".join(f"photos/{number}.jpg,image {number}\n" for number in range(4))
    objects = {"parts/a.parquet": file.read_bytes(), "parts/b.parquet": file.read_bytes()}
    objects |= {"catalogue/table.csv": table.encode()}
    objects |= {f"catalogue/photos/{number}.jpg": blob for number, blob in enumerate(blobs)}
    with started_store(objects) as address:
        yield address


@pytest.fixture(autouse=True)
def place(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def texts(source: Any) -> list[str]:
    return [read_pair(document).text for document in documents_from(source, task="text-to-image")]


def test_files_folders_and_wildcards_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert texts("gs://shop/parts/a.parquet") == IMAGES
    assert texts("gs://shop/parts") == texts("gs://shop/parts/*.parquet") == [*IMAGES, *IMAGES]
    assert texts("gs://shop/catalogue/") == IMAGES


@pytest.mark.parametrize("source", ["gs://shop/none.parquet", "gs://shop/none-*.parquet", "gs://other/a.parquet"])
def test_what_is_not_there_is_named(source: str) -> None:
    with pytest.raises((DatasetNotFound, InvalidInput), match=r"where nothing is|no such bucket"):
        texts(source)
