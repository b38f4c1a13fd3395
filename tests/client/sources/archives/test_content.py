"""Data in zip and tar files: tables, folders, COCO, saved data sets, shards."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuner.documents.pairs import read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.archives.content import is_of_files
from finetuner.sources.kinds import documents_from, is_source
from finetuner.sources.tables.csv_file import CSVOptions
from tests.client.sources.made_shards import parquet, tar

Files = dict[str, str | int]
"""Name -> a text, or the number of an image."""

CSV: Files = {"data.csv": "text,image\na,images/0.jpg\nb,images/1.jpg\n", "images/0.jpg": 0, "images/1.jpg": 1}
COCO = json.dumps(
    {
        "images": [{"id": 0, "file_name": "0.jpg"}, {"id": 1, "file_name": "1.jpg"}],
        "annotations": [{"id": n, "image_id": n, "caption": text} for n, text in enumerate("ab")],
    }
)
INSTANCES = COCO.replace('"caption": "a"', '"category_id": 0').replace('"caption": "b"', '"category_id": 1')
CATEGORIES = ', "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]}'
FORMS: dict[str, Files] = {
    "CSV": CSV,
    "CSV in a folder": {f"shop/{name}": content for name, content in CSV.items()},
    "jsonl": {"x.jsonl": '{"text": "a", "image": "0.jpg"}\n{"text": "b", "image": "1.jpg"}\n', "0.jpg": 0, "1.jpg": 1},
    "jsonl files": {
        "d/1.jsonl": '{"text": "b", "image": "../1.jpg"}\n',
        "d/0.jsonl": '{"text": "a", "image": "../0.jpg"}\n',
        "0.jpg": 0,
        "1.jpg": 1,
    },
    "captions beside images": {"p/0.jpg": 0, "p/0.txt": "a", "p/1.jpg": 1, "p/1.txt": "b"},
    "metadata": {"train/metadata.csv": "file_name,text\n0.jpg,a\n1.jpg,b\n", "train/0.jpg": 0, "train/1.jpg": 1},
    "COCO": {
        "coco/annotations/captions_val2017.json": COCO,
        "coco/annotations/instances_val2017.json": INSTANCES[:-1] + CATEGORIES,
        "coco/annotations/info.json": "{}",
        "coco/val2017/0.jpg": 0,
        "coco/val2017/1.jpg": 1,
    },
}
FORMS["jsonl files"] = {name.replace("d/", "data/"): content for name, content in FORMS["jsonl files"].items()}


@pytest.fixture
def make(tmp_path: Path, jpeg: Callable[[int], bytes]) -> Callable[[str, Files], Path]:
    """Return the maker of an archive of an ending."""

    def archive(ending: str, files: Files) -> Path:
        members = {name: each.encode() if isinstance(each, str) else jpeg(each) for name, each in files.items()}
        path = tmp_path / f"shop.{ending}"
        if ending == "zip":
            with zipfile.ZipFile(path, "w") as opened:
                for name, content in members.items():
                    opened.writestr(name, content)
            return path
        return tar(path, members.items(), f"w:{ending.partition('.')[2]}" if "." in ending else "w")

    return archive


def texts(path: Path, **options: Any) -> list[str]:
    return [read_pair(document).text for document in documents_from(path, task="text-to-image", **options)]


def labels(path: Path, **options: Any) -> list[str]:
    documents = documents_from(path, task="image-to-image", **options)
    return [document.tags["finetuner_label"] for document in documents]


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("form", FORMS)
def test_every_kind_of_data_is_read_from_an_archive(make: Callable[[str, Files], Path], form: str, ending: str) -> None:
    path = make(ending, FORMS[form])
    assert is_source(str(path))
    assert texts(path) == ["a", "b"]
    assert texts(path, csv_options=CSVOptions(size=1)) == ["a"]


@pytest.mark.parametrize("ending", ["zip", "tar"])
def test_labels_are_read_from_an_archive(make: Callable[[str, Files], Path], ending: str) -> None:
    assert labels(make(ending, FORMS["COCO"])) == ["cat", "dog"]
    assert labels(make(ending, {"cat/0.jpg": 0, "cat/1.jpg": 1, "dog/2.jpg": 2})) == ["cat", "cat", "dog"]
    assert labels(make(ending, {"all/cat/0.jpg": 0, "all/dog/2.jpg": 2})) == ["cat", "dog"]
    assert labels(make(ending, {"cat/0.jpg": 0})) == ["cat"]
    assert labels(make(ending, {"a.csv": "image,label\nx/0.jpg,7\n", "x/0.jpg": 0})) == ["7"]


def test_columns_are_named_in_an_archive(make: Callable[[str, Files], Path]) -> None:
    path = make("zip", {"a.csv": "titel,foto\na,0.jpg\n", "0.jpg": 0})
    assert texts(path, columns={"text": "titel", "image": "foto"}) == ["a"]
    with pytest.raises(
        InvalidDocument, match="shop.zip/a.csv must(.*\n)*.*a header, with the columns titel, foto, name"
    ):
        texts(path)
    with pytest.raises(InvalidInput, match="columns are for .* Got them with '.*shop.zip' .folder"):
        texts(make("zip", FORMS["captions beside images"]), columns={"text": "titel"})


def test_parquet_files_and_saved_data_are_read_from_a_zip(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    import datasets

    columns: dict[str, list[Any]] = {"image": [jpeg(0), jpeg(1)], "text": ["a", "b"]}
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "saved")
    (tmp_path / "data").mkdir()
    for number in range(2):
        row = {name: [values[number]] for name, values in columns.items()}
        parquet(tmp_path / f"data/train-{number:05}.parquet", row)
    for folder in ("saved", "data"):
        path = tmp_path / f"{folder}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("README.md", "x")
            for file in (tmp_path / folder).iterdir():
                archive.write(file, f"{folder}/{file.name}")
        if folder == "saved":
            with zipfile.ZipFile(path, "w") as archive:
                for file in (tmp_path / folder).iterdir():
                    archive.write(file, f"{folder}/{file.name}")
        assert texts(path) == ["a", "b"]


def test_shards_in_a_zip_stay_shards(tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for number in range(2):
            members = [(f"{number}.jpg", jpeg(number)), (f"{number}.txt", b"ab"[number : number + 1])]
            archive.write(tar(tmp_path / f"{number}.tar", members), f"{number}.tar")
    assert texts(tmp_path / "x.zip") == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "of_files"),
    [
        (["0.jpg", "0.txt"], False),
        (["0.jpg", "0.json"], False),
        (["a/0", "a/0.json"], False),
        (["0.jpg", "0.json", "info.json"], False),
        (["0.jpg", "a/captions.json"], True),
        (["0.jpg", "metadata.CSV"], True),
        (["0.parquet"], True),
        (["s/state.json", "s/dataset_info.json", "s/data.arrow"], True),
        ([".hidden.csv", "0.jpg", "0.txt"], False),
        ([], False),
    ],
)
def test_shards_and_files_in_tar_files_are_told_apart(tmp_path: Path, names: list[str], of_files: bool) -> None:
    path = tar(tmp_path / "x.tar", [(name, b"x") for name in names])
    assert is_of_files(str(path), "text-to-image") == of_files


def test_shards_of_labels_are_no_folders(tmp_path: Path) -> None:
    for names, of_files in (
        (["cat/0.jpg", "dog/0.jpg"], True),
        (["cat/0.jpg", "cat/0.cls"], False),
        (["cat/0.jpg", "cat/0.json"], False),
        (["0.jpg"], False),
    ):
        path = tar(tmp_path / "x.tar", [(name, b"x") for name in names])
        assert is_of_files(str(path), "image-to-image") == of_files, names


def test_images_outside_the_archive_are_not_read(make: Callable[[str, Files], Path], shop: Path) -> None:
    for image in (str(shop / "0.jpg"), f"file://{shop}/0.jpg", "../../../../../../../../../etc/passwd", "~/0.jpg"):
        path = make("zip", {"a.csv": f"text,image\na,0.jpg\nb,{image}\n", "0.jpg": 0})
        with pytest.raises(InvalidDocument, match="Got 1 that cannot(.*\n)*  line 3: image must be a file or a URI"):
            texts(path)
        with pytest.warns(UserWarning, match="left out 1"):
            assert texts(path, on_error="skip") == ["a"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a.csv": "x", "b.csv": "x"}, "one table, or several .*Got 'a.csv', 'b.csv' in 'shop.zip'. Unpack it"),
        ({"x/a.csv": "x", "x/b.jsonl": "x"}, "Got 'x/a.csv', 'x/b.jsonl' in 'shop.zip'"),
        (
            {"annotations/captions_train.json": COCO, "annotations/captions_val.json": COCO},
            "Got 'annotations/captions_tr",
        ),
        ({}, "must hold at least one usable entry. Got none"),
        ({"a.bin": "x"}, r"Got none .passed over 1 entries: 1 not an image"),
        ({"a.zip": "x"}, r"Got none .passed over 1 entries: 1 not an image"),
    ],
)
def test_an_archive_of_something_else_is_refused(
    make: Callable[[str, Files], Path], files: Files, expected: str
) -> None:
    with pytest.raises(InvalidInput, match=expected):
        texts(make("zip", files))


def test_a_damaged_tar_file_is_left_to_its_reader(make: Callable[[str, Files], Path]) -> None:
    path = make("tar", {"0.jpg": 0, "0.txt": "a", "1.jpg": 1, "1.txt": "b"})
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(InvalidDocument, match="tar file must be whole"):
        texts(path)
    assert tarfile.is_tarfile(path)
