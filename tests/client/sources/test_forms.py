"""One dataset in every form has one fingerprint."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docarray import DocumentArray

from finetuner.api.data.upload import _plan
from finetuner.documents.pairs import make_pair
from finetuner.sources.kinds import documents_from
from finetuner.sources.spool import Spool
from finetuner.sources.tables.csv_file import CSVOptions
from tests.client.sources.links.link_server import LinkServer, link_server
from tests.client.sources.made_shards import parquet, tar

Row = tuple[str, str]
PAIRS = 200


def _csv(path: Path, rows: list[Any], header: tuple[str, ...] | None = None, delimiter: str = ",") -> Path:
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([*([header] if header else []), *rows])
    return path


def _jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def _coco(path: Path, rows: list[Row]) -> Path:
    images = [{"id": number, "file_name": name} for number, (_, name) in enumerate(rows)]
    captions = [{"id": number, "image_id": number, "caption": text} for number, (text, _) in enumerate(rows)]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": captions[::-1]}))
    return path


def _zip(path: Path, files: dict[str, Path]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in files.items():
            archive.write(file, name)
    return path


def _folder(path: Path, rows: list[Row], blobs: list[bytes]) -> Path:
    path.mkdir()
    for (text, name), blob in zip(rows, blobs, strict=True):
        (path / name).write_bytes(blob)
        (path / name).with_suffix(".txt").write_text(text)
    return path


def _tables(folder: Path, rows: list[Row], blobs: list[bytes]) -> dict[str, Path]:
    texts, paths = [text for text, _ in rows], [path for _, path in rows]
    more = [("7", text, "x", path, "") for text, path in rows]
    mixed = [
        {"bytes": blob if n % 2 else None, "path": path}
        for n, (blob, path) in enumerate(zip(blobs, paths, strict=True))
    ]
    return {
        "CSV without a header": _csv(folder / "plain.csv", rows),
        "CSV with a header": _csv(folder / "header.csv", rows, ("caption", "image")),
        "CSV with other columns": _csv(folder / "more.csv", more, ("id", "text", "note", "file_name", "empty"), ";"),
        "TSV of open_clip": _csv(
            folder / "clip.tsv", [(path, text) for text, path in rows], ("filepath", "title"), "\t"
        ),
        "jsonl": _jsonl(folder / "data.jsonl", [{"file_name": path, "text": text} for text, path in rows]),
        "parquet with bytes": parquet(folder / "bytes.parquet", {"image": blobs, "text": texts}),
        "parquet with paths": parquet(folder / "paths.parquet", {"image_path": paths, "caption": texts}),
        "parquet of Hugging Face": parquet(folder / "hf.parquet", {"image": mixed, "text": texts}),
        "parquet with lists": parquet(
            folder / "lists.parquet", {"image": blobs, "captions": [[text] for text in texts]}
        ),
        "COCO": _coco(folder / "captions.json", rows),
    }


@pytest.fixture(scope="module")
def server(jpeg: Callable[[int], bytes]) -> Iterator[LinkServer]:
    with link_server(jpeg) as running:
        yield running


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory, jpeg: Callable[[int], bytes], server: LinkServer) -> dict[str, Any]:
    """Return the form's name -> data of the same PAIRS pairs."""
    folder = tmp_path_factory.mktemp("forms")
    rows = [(f'Kleid "{number}", grün; rot', f"{number:03}.jpg") for number in range(PAIRS)]
    blobs = [jpeg(number) for number in range(PAIRS)]
    for (_, name), blob in zip(rows, blobs, strict=True):
        (folder / name).write_bytes(blob)
    tables = _tables(folder, rows, blobs)
    photos = _folder(folder / "photos", rows, blobs)
    imagefolder = _csv(folder / "imagefolder/metadata.csv", rows, ("text", "file_name")).parent
    for _, name in rows:
        (imagefolder / name).symlink_to(folder / name)
    images = {name: folder / name for _, name in rows}
    members = [(name, blob, text) for (text, name), blob in zip(rows, blobs, strict=True)]
    beside_json = [
        part
        for name, blob, text in members
        for part in ((name, blob), (name.replace(".jpg", ".json"), json.dumps({"caption": text}).encode()))
    ]
    beside_txt = [
        part for name, blob, text in members for part in ((name, blob), (name.replace(".jpg", ".txt"), text.encode()))
    ]
    addresses = [f"{server.url}/good/{number}" for number in range(PAIRS)]
    return {
        **tables,
        "parquet of addresses": parquet(folder / "url.parquet", {"URL": addresses, "TEXT": [text for text, _ in rows]}),
        "CSV of addresses": _csv(
            folder / "url.csv",
            [(text, url) for (text, _), url in zip(rows, addresses, strict=True)],
            ("caption", "url"),
        ),
        "captions beside images": photos,
        "imagefolder": imagefolder,
        "WebDataset": tar(folder / "txt.tar", beside_txt),
        "WebDataset with json": tar(folder / "json.tar", beside_json),
        "zip of CSV": _zip(
            folder / "csv.zip",
            {"shop/header.csv": tables["CSV with a header"]} | {f"shop/{name}": path for name, path in images.items()},
        ),
        "zip of jsonl": _zip(folder / "jsonl.zip", {"data.jsonl": tables["jsonl"], **images}),
        "zip of parquet": _zip(folder / "parquet.zip", {"data/a.parquet": tables["parquet with bytes"]}),
        "zip of COCO": _zip(
            folder / "coco.zip",
            {"annotations/captions_val.json": tables["COCO"]} | {f"val/{name}": path for name, path in images.items()},
        ),
        "zip of an imagefolder": _zip(folder / "folder.zip", {path.name: path for path in imagefolder.iterdir()}),
        "zip of captions": _zip(folder / "photos.zip", {f"photos/{path.name}": path for path in photos.iterdir()}),
        "tar of CSV": tar(
            folder / "csv.tar.gz",
            [("header.csv", tables["CSV with a header"].read_bytes())] + [(name, blob) for name, blob, _ in members],
            "w:gz",
        ),
    }


@pytest.fixture(scope="module")
def hub_forms(
    tmp_path_factory: pytest.TempPathFactory, forms: dict[str, Any], jpeg: Callable[[int], bytes]
) -> dict[str, Any]:
    """Return the form's name -> the same pairs as a data set of Hugging Face."""
    import datasets

    folder = forms["jsonl"].parent
    rows = [json.loads(line) for line in forms["jsonl"].read_text().splitlines()]
    columns = {"image": [str(folder / row["file_name"]) for row in rows], "text": [row["text"] for row in rows]}
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    dataset = datasets.Dataset.from_dict(columns, features=features)
    saved = tmp_path_factory.mktemp("saved")
    dataset.save_to_disk(saved / "one")
    datasets.DatasetDict({"train": dataset}).save_to_disk(saved / "splits")
    dataset.to_parquet(saved / "hub.parquet")
    return {
        "Dataset": dataset,
        "IterableDataset": dataset.to_iterable_dataset(num_shards=4),
        "DatasetDict": datasets.DatasetDict({"train": dataset}),
        "save_to_disk": saved / "one",
        "save_to_disk of a DatasetDict": saved / "splits",
        "to_parquet": saved / "hub.parquet",
        "zip of save_to_disk": _zip(saved / "saved.zip", {path.name: path for path in (saved / "one").iterdir()}),
    }


def fingerprint(documents: Any) -> str:
    """Return the version that a push of these documents has; see `upload.UploadPlan`."""
    with Spool(documents) as spool:
        return _plan("forms", spool).version


@pytest.fixture(scope="module")
def expected(jpeg: Callable[[int], bytes]) -> str:
    """Return the fingerprint of the pairs as documents."""
    pairs = DocumentArray(make_pair(f'Kleid "{number}", grün; rot', jpeg(number)) for number in range(PAIRS))
    return fingerprint(pairs)


@pytest.mark.seconds
def test_every_form_has_one_fingerprint(forms: dict[str, Any], expected: str) -> None:
    found = {form: fingerprint(documents_from(data, task="text-to-image")) for form, data in forms.items()}
    assert found == dict.fromkeys(forms, expected)


@pytest.mark.seconds
def test_every_form_of_hugging_face_has_the_same(hub_forms: dict[str, Any], expected: str) -> None:
    found = {form: fingerprint(documents_from(data, task="text-to-image")) for form, data in hub_forms.items()}
    assert found == dict.fromkeys(hub_forms, expected)


@pytest.mark.seconds
@pytest.mark.parametrize("options", [{"size": 7}, {"sampling_rate": 0.05}, {"sampling_rate": 0.05, "size": 4}])
def test_every_form_is_sampled_alike(forms: dict[str, Any], options: dict[str, Any]) -> None:
    found = {}
    for form, data in forms.items():
        documents = documents_from(data, task="text-to-image", csv_options=CSVOptions(**options))
        found[form] = [document.chunks[0].text for document in documents]
    (texts,) = {tuple(each) for each in found.values()}
    assert 0 < len(texts) < PAIRS
    assert len(texts) <= options.get("size", PAIRS)
