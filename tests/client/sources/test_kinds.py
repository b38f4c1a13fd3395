"""Kinds of local data and their readers."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from docarray import Document, DocumentArray

from finetuner.documents.pairs import read_pair
from finetuner.exceptions import DatasetNotFound, InvalidDocument, InvalidInput
from finetuner.sources.kinds import documents_from, is_source
from finetuner.sources.paths import data_not_found
from finetuner.sources.tables.csv_file import CSVOptions


@pytest.fixture
def data(tmp_path: Path, jpeg: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with one source of each kind."""
    for number in range(3):
        (tmp_path / f"images/class{number}").mkdir(parents=True)
        (tmp_path / f"images/class{number}/x.jpg").write_bytes(jpeg(number))
        (tmp_path / f"images/class{number}/x.txt").write_text(f"folder {number}")
        (tmp_path / f"{number}.csv").write_text(f"csv {number},images/class{number}/x.jpg\n")
        (tmp_path / f"{number}.jsonl").write_text(
            f'{{"text": "jsonl {number}", "image": "images/class{number}/x.jpg"}}\n'
        )
        table = pa.table({"text": [f"parquet {number}"], "image": [jpeg(number)]})
        pyarrow.parquet.write_table(table, tmp_path / f"{number}.parquet")
        with tarfile.open(tmp_path / f"shard-{number:03}.tar", "w") as archive:
            for suffix, content in {"jpg": jpeg(number), "txt": f"tar {number}".encode()}.items():
                info = tarfile.TarInfo(f"x{number}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def texts(source: Any, **options: Any) -> list[str]:
    return [read_pair(document).text for document in documents_from(source, task="text-to-image", **options)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("0.csv", ["csv 0"]),
        (["1.csv", Path("0.csv")], ["csv 1", "csv 0"]),
        ("*.csv", ["csv 0", "csv 1", "csv 2"]),
        (["2.jsonl", "[01].jsonl"], ["jsonl 2", "jsonl 0", "jsonl 1"]),
        ("images", ["folder 0", "folder 1", "folder 2"]),
        (["images/class1", "images/class0"], ["folder 1", "folder 0"]),
        ("images/**/*.jpg", ["folder 0", "folder 1", "folder 2"]),
        ("images/class2/*", ["folder 2"]),
        ("images/class2/x.jpg", ["folder 2"]),
        ("{2,0}.parquet", ["parquet 2", "parquet 0"]),
        (Path("1.parquet"), ["parquet 1"]),
        ("shard-{000..002}.tar", ["tar 0", "tar 1", "tar 2"]),
        (["shard-00[01].tar"], ["tar 0", "tar 1"]),
    ],
)
def test_every_kind_of_source(data: Path, source: Any, expected: list[str]) -> None:
    assert is_source(source)
    assert texts(source) == expected


def test_a_source_may_lie_in_the_home_folder(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(data))
    (data / "home.csv").write_text("at home,~/images/class0/x.jpg\n")
    for source in ("~/home.csv", Path("~/home.csv"), ["~/home.csv"]):
        assert is_source(source)
        assert texts(source) == ["at home"]
    assert texts("~/images") == ["folder 0", "folder 1", "folder 2"]


def test_an_open_file_is_csv(data: Path) -> None:
    with open("1.csv") as file:
        assert is_source(file)
        assert texts(file) == ["csv 1"]


@pytest.mark.parametrize("name", ["fashion-train-data-clip", "v1.2", "", [], (), None, 3, ["a", 3]])
def test_names_and_other_values_are_not_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_source(name)


def test_documents_are_not_a_source() -> None:
    assert not is_source(DocumentArray.empty(2))
    assert not is_source([Document()])


@pytest.mark.parametrize("name", ["missing.csv", "missing/folder", "x.parquet", "shard-{0..2}.tar", "*.jpg", "X.JPG"])
def test_a_missing_path_is_neither_file_nor_dataset(data: Path, name: str) -> None:
    assert is_source(name)
    with pytest.raises(DatasetNotFound, match="which is neither a file or folder .* nor a dataset in the Flow"):
        texts(name)


def test_an_existing_folder_takes_precedence_over_a_dataset(data: Path) -> None:
    assert is_source("images")
    assert not is_source("paintings")
    assert "'paintings', which is neither" in str(data_not_found("paintings"))


@pytest.mark.parametrize(
    ("source", "options", "expected"),
    [
        ("0.csv", {"task": "text-to-text"}, "task of local data must be one of text-to-image, image-to-image"),
        ("0.csv", {"on_error": "ignore"}, "on_error must be one of raise, skip. Got 'ignore'"),
        ("0.csv", {"csv_options": {"size": 3}}, "csv_options must be finetuner CSVOptions"),
        (
            "images",
            {"csv_options": CSVOptions(convert_to_blob=False)},
            "CSVOptions.convert_to_blob is for files that name images. Got False with folder. Leave it out.",
        ),
        (
            "images",
            {"columns": {"text": "a"}},
            "columns are for CSV, jsonl and parquet files, .* Got them with 'images'",
        ),
        ("0.parquet", {"csv_options": CSVOptions(is_labeled=True)}, "CSVOptions.is_labeled is for CSV files. Got True"),
        ("0.jsonl", {"csv_options": CSVOptions(encoding="latin-1")}, "CSVOptions.encoding is for CSV files"),
        ("0.csv", {"columns": ["image"]}, "columns must be a dict such as"),
        (["0.csv", "0.parquet"], {}, r"one kind. Got CSV \('0.csv'\), parquet \('0.parquet'\)"),
        (["0.csv", "1.csv"], {"csv_options": CSVOptions(size=1)}, "CSVOptions.size is for one CSV file. Got 2"),
        ("ftp://example.com/x.csv", {}, "data must be local, or at hf://.* Got 'ftp://example.com/x.csv'"),
        (["pipe:curl x/0.tar"], {}, "data must be local"),
        ("x-{0..999999999999}.tar", {}, "at most 100000 files"),
        ("{1,2}{0..99999}.tar", {}, "at most 100000 files"),
        ("weights.bin", {}, "data file must end in .csv"),
        (3, {}, "data must be a path, a list of paths or an open text file. Got 3"),
    ],
)
def test_an_invalid_source_is_refused_at_the_call(data: Path, source: Any, options: Any, expected: str) -> None:
    (data / "weights.bin").write_bytes(b"x")
    with pytest.raises(InvalidInput, match=expected):
        documents_from(source, **{"task": "text-to-image", **options})


def test_options_reach_the_reader(data: Path) -> None:
    Path("all.csv").write_text("a;images/class0/x.jpg\nbad\nc;images/class1/x.jpg\nd;images/class2/x.jpg\n")
    with pytest.raises(InvalidDocument, match="line 2"):
        documents_from("all.csv", task="text-to-image")
    with pytest.warns(UserWarning, match="line 2"):
        assert texts("all.csv", csv_options=CSVOptions(size=2), on_error="skip") == ["a", "c"]
    documents = documents_from("images", task="image-to-image")
    assert [document.tags["finetuner_label"] for document in documents] == ["class0", "class1", "class2"]


@pytest.mark.parametrize("source", ["images", "images/**/*.jpg", "shard-{000..002}.tar"])
def test_folders_images_and_shards_are_sampled(data: Path, source: str) -> None:
    everything = texts(source)
    assert texts(source, csv_options=CSVOptions(size=2)) == everything[:2]
    some = texts(source, csv_options=CSVOptions(sampling_rate=0.5))
    assert some == texts(source, csv_options=CSVOptions(sampling_rate=0.5))
    assert 0 < len(some) < 3


@pytest.mark.process
def test_the_import_is_light() -> None:
    code = "import sys, finetuner.sources.kinds; "
    code += "print([m for m in ('torch', 'pyarrow', 'docarray', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
