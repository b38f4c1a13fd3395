"""Folders of `save_to_disk`: of datasets itself, and damaged ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.hugging_face.saved import is_saved
from finetuner.sources.kinds import documents_from
from finetuner.sources.tables.csv_file import CSVOptions

HF = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}}}


def saved(folder: Path, *tables: dict[str, Any]) -> Path:
    """Return a folder as `save_to_disk` writes it, with a file for each table."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05}-of-{len(tables):05}.arrow" for number in range(len(tables))]
    for name, columns in zip(names, tables, strict=True):
        table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(HF)})
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table, max_chunksize=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


@pytest.fixture
def tables(jpeg: Callable[[int], bytes]) -> list[dict[str, Any]]:
    images = [{"bytes": jpeg(number), "path": f"{number}.jpg"} for number in range(4)]
    return [
        {"image": images[:3], "text": ["a", "b", "c"], "label": [0, 1, -1]},
        {"image": images[3:], "text": ["d"], "label": [7]},
    ]


def pairs(folder: Path, **options: Any) -> list[Pair]:
    return [read_pair(document) for document in documents_from(folder, task="text-to-image", **options)]


def test_files_are_read_in_order(tmp_path: Path, tables: list[dict[str, Any]], jpeg: Callable[[int], bytes]) -> None:
    folder = saved(tmp_path / "data", *tables)
    assert is_saved(folder)
    labels = ["cat", "dog", "", "7"]
    assert pairs(folder) == [Pair(text, jpeg(n), labels[n]) for n, text in enumerate("abcd")]
    assert [pair.text for pair in pairs(folder, csv_options=CSVOptions(size=2), columns={"text": "text"})] == ["a", "b"]
    some = [pair.text for pair in pairs(folder, csv_options=CSVOptions(sampling_rate=0.5))]
    assert 0 < len(some) < 4


def test_what_datasets_saves_is_read(shop: Path, tmp_path: Path, jpeg: Callable[[int], bytes]) -> None:
    import datasets

    columns = {"image": [str(shop / f"{number}.jpg") for number in range(4)], "text": list("abcd")}
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    data = datasets.Dataset.from_dict(columns, features=features)
    data.select([3, 1, 0]).save_to_disk(tmp_path / "one", num_shards=2)
    datasets.DatasetDict({"train": data}).save_to_disk(tmp_path / "splits")
    assert pairs(tmp_path / "one") == [Pair("abcd"[number], jpeg(number)) for number in (3, 1, 0)]
    assert [pair.text for pair in pairs(tmp_path / "splits")] == list("abcd")


def test_one_split_is_read_and_several_are_refused(tmp_path: Path, tables: list[dict[str, Any]]) -> None:
    for split in ("train", "test"):
        saved(tmp_path / "data" / split, *tables)
    (tmp_path / "data/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(InvalidInput, match="one split. Got 2: '.*data/train', '.*data/test'. Pass the folder of one"):
        pairs(tmp_path / "data")
    (tmp_path / "data/dataset_dict.json").write_text('{"splits": ["train"]}')
    assert len(pairs(tmp_path / "data")) == len(pairs(tmp_path / "data/test")) == 4


def test_bad_rows_are_named_or_left_out(tmp_path: Path, tables: list[dict[str, Any]]) -> None:
    tables[0]["text"][1] = " "
    tables[1]["image"] = [{"bytes": None, "path": "none.jpg"}]
    folder = saved(tmp_path / "data", *tables)
    with pytest.raises(
        InvalidDocument, match="Got 2 that(.*\n)*.*00000-of-00002.arrow row 1: caption(.*\n)*.*2.arrow row 0: im"
    ):
        pairs(folder)
    with pytest.warns(UserWarning, match="left out 2"):
        assert [pair.text for pair in pairs(folder, on_error="skip")] == ["a", "c"]


def test_a_truncated_file_is_an_invalid_entry(tmp_path: Path, tables: list[dict[str, Any]]) -> None:
    folder = saved(tmp_path / "data", *tables)
    first = folder / "data-00000-of-00002.arrow"
    first.write_bytes(first.read_bytes()[:-300])
    with pytest.raises(InvalidDocument, match="from row 2: file must be whole. Got an error"):
        pairs(folder)
    with pytest.warns(UserWarning, match="left out 1"):
        assert [pair.text for pair in pairs(folder, on_error="skip")] == ["a", "b", "d"]


def test_every_damaged_file_is_an_error_of_ours(tmp_path: Path, tables: list[dict[str, Any]]) -> None:
    folder = saved(tmp_path / "data", tables[1])
    (path,) = folder.glob("*.arrow")
    whole = path.read_bytes()
    for position in range(0, len(whole), max(len(whole) // 150, 1)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            pairs(folder)
        except (InvalidInput, InvalidDocument):
            continue


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("state.json", "{", "state.json must be a readable file of JSON"),
        ("state.json", "[]", "state.json must be an object. Got \\[\\]"),
        ("state.json", "{}", "state.json must name files beside it. Got None"),
        ("state.json", '{"_data_files": []}', "state.json must name files beside it"),
        ("state.json", '{"_data_files": [{"filename": "../x.arrow"}]}', "state.json must name files beside it"),
        ("state.json", '{"_data_files": [{"filename": "/etc/passwd"}]}', "state.json must name files beside it"),
        ("state.json", '{"_data_files": ["x.arrow"]}', "state.json must name files beside it"),
        ("state.json", '{"_data_files": [{"filename": "x.arrow"}]}', "Arrow file must be readable. Got '.*x.arrow'"),
        ("state.json", '{"_data_files": [{"filename": "state.json"}]}', "Arrow file must be readable"),
        ("state.json", '{"_indices_data_files": [{"filename": "i.arrow"}]}', "must have no file of indices"),
        ("dataset_dict.json", '{"splits": ["../data"]}', "dataset_dict.json must have names of splits"),
        ("dataset_dict.json", '{"splits": "train"}', "dataset_dict.json must have names of splits"),
        ("dataset_dict.json", '{"splits": ["none"]}', "state.json must be a readable file"),
    ],
)
def test_a_damaged_folder_is_refused(
    tmp_path: Path, tables: list[dict[str, Any]], name: str, text: str, expected: str
) -> None:
    folder = saved(tmp_path / "data", *tables)
    (folder / name).write_text(text)
    with pytest.raises(InvalidInput, match=expected):
        pairs(folder)


def test_columns_of_another_type_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "data", {"image": [1], "text": ["a"]})
    with pytest.raises(InvalidInput, match="column image must be .*Got int64 in '.*arrow'"):
        documents_from(folder, task="text-to-image")
