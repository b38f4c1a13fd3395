"""Objects of Hugging Face's datasets: with features and without, tables and streams, splits."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from finetuner.documents.images import decode
from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.hugging_face.objects import kind_of_object
from finetuner.sources.kinds import documents_from, is_source
from finetuner.sources.tables.csv_file import CSVOptions


@pytest.fixture
def features() -> Any:
    captions = datasets.Sequence(datasets.Value("string"))
    return datasets.Features(
        {"image": datasets.Image(), "text": captions, "label": datasets.ClassLabel(names=["cat", "dog"])}
    )


@pytest.fixture
def dataset(shop: Path, jpeg: Callable[[int], bytes], features: Any) -> Any:
    """Return four rows: images by path and by bytes, lists of captions, classes; the last without a class."""
    images = [
        str(shop / "0.jpg"),
        {"bytes": jpeg(1), "path": None},
        str(shop / "2.jpg"),
        {"bytes": jpeg(3), "path": "x"},
    ]
    columns = {"image": images, "text": [["a", "b"], ["c"], ["d"], ["e"]], "label": [0, 1, 0, -1]}
    return datasets.Dataset.from_dict(columns, features=features)


def pairs(data: Any, **options: Any) -> list[Pair]:
    return [read_pair(document) for document in documents_from(data, task="text-to-image", **options)]


@pytest.mark.parametrize("form", ["table", "stream", "formatted", "formatted stream", "decoded", "dictionary"])
def test_a_data_set_is_read_as_it_is(dataset: Any, jpeg: Callable[[int], bytes], form: str) -> None:
    data = {
        "table": lambda: dataset,
        "stream": dataset.to_iterable_dataset,
        "formatted": lambda: dataset.with_format("numpy"),
        "formatted stream": lambda: dataset.to_iterable_dataset().with_format("numpy"),
        "decoded": lambda: dataset.cast_column("image", datasets.Image(decode=False)),
        "dictionary": lambda: datasets.DatasetDict({"train": dataset}),
    }[form]()
    assert is_source(data)
    assert pairs(data) == [
        Pair("a", jpeg(0), "cat"),
        Pair("b", jpeg(0), "cat"),
        Pair("c", jpeg(1), "dog"),
        Pair("d", jpeg(2), "cat"),
        Pair("e", jpeg(3)),
    ]


def test_a_selection_is_read_in_its_order(dataset: Any) -> None:
    assert [pair.text for pair in pairs(dataset.select([3, 1]))] == ["e", "c"]
    assert [pair.text for pair in pairs(dataset.filter(lambda row: row["label"] == 0))] == ["a", "b", "d"]
    assert [pair.text for pair in pairs(dataset, csv_options=CSVOptions(size=2))] == ["a", "b", "c"]
    for form in (dataset, dataset.to_iterable_dataset()):
        some = [pair.text for pair in pairs(form, csv_options=CSVOptions(sampling_rate=0.5))]
        assert some == [pair.text for pair in pairs(dataset, csv_options=CSVOptions(sampling_rate=0.5))]
        assert 0 < len(some) < 5


def test_columns_are_named(dataset: Any, jpeg: Callable[[int], bytes]) -> None:
    renamed = dataset.rename_columns({"image": "foto", "text": "titel"}).add_column("more", list("wxyz"))
    with pytest.raises(InvalidInput, match=r"Got foto, titel, label, more in the Dataset. Name the columns"):
        pairs(renamed)
    columns = {"image": "foto", "text": ["more", "titel"]}
    assert pairs(renamed, columns=columns)[:3] == [Pair(text, jpeg(0)) for text in "wab"]
    assert [pair.text for pair in pairs(renamed.to_iterable_dataset(), columns=columns)] == list("wabxcydze")


def test_labels_of_images(dataset: Any) -> None:
    with pytest.raises(InvalidDocument, match="row 3: sample must have a label"):
        list(documents_from(dataset, task="image-to-image"))
    for data in (dataset, dataset.to_iterable_dataset()):
        with pytest.warns(UserWarning, match="left out 1"):
            documents = list(documents_from(data, task="image-to-image", on_error="skip"))
        assert [document.tags["finetuner_label"] for document in documents] == ["cat", "dog", "cat"]


def test_a_generator_without_features_has_images_of_pillow(shop: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for number in range(3):
            with Image.open(shop / f"{number}.jpg") as image:
                yield {"image": image, "caption": f"{number}"}

    found = pairs(datasets.IterableDataset.from_generator(rows))
    assert [pair.text for pair in found] == ["0", "1", "2"]
    for number, pair in enumerate(found):
        expected = np.asarray(decode((shop / f"{number}.jpg").read_bytes()))
        assert np.array_equal(np.asarray(decode(pair.image)), expected)


def test_images_that_are_no_file_and_no_png_are_invalid() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"image": Image.new("RGB", (8, 8)), "text": "a"}
        yield {"image": Image.new("F", (8, 8)), "text": "b"}
        yield {"image": Image.new("RGB", (800, 8)), "text": "c"}
        yield {"image": np.zeros((8, 8, 3), np.uint8), "text": "d"}

    data = datasets.IterableDataset.from_generator(rows)
    with pytest.raises(InvalidDocument) as caught:
        list(documents_from(data, task="text-to-image"))
    for line in (
        "row 1: image must have a mode that PNG has. Got F",
        "row 2: image must be at most 50 times",
        "row 3: sam",
    ):
        assert f"  {line}" in str(caught.value)
    with pytest.warns(UserWarning, match="left out 3"):
        assert [pair.text for pair in pairs(data, on_error="skip")] == ["a"]


def test_bad_rows_are_named_or_left_out(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    images = [{"bytes": jpeg(0), "path": None}, {"bytes": b"no image", "path": None}, None, str(shop / "none.jpg")]
    columns = {"image": images, "text": list("abcd")}
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    data = datasets.Dataset.from_dict(columns, features=features)
    with pytest.raises(
        InvalidDocument, match="the Dataset must .* Got 3 that (.*\n)*.*row 1: .*\n.*row 2: .*\n.*row 3: "
    ):
        pairs(data)
    for form in (data, data.to_iterable_dataset()):
        with pytest.warns(UserWarning, match="left out 3"):
            assert [pair.text for pair in pairs(form, on_error="skip")] == ["a"]


def test_several_splits_are_refused(dataset: Any) -> None:
    data = datasets.DatasetDict({"train": dataset, "test": dataset})
    assert is_source(data)
    with pytest.raises(
        InvalidInput, match=r"one split. Got a DatasetDict with 2: data\['train'\], data\['test'\]. Pass"
    ):
        pairs(data)
    with pytest.raises(InvalidInput, match="Got a DatasetDict with 0: none"):
        pairs(datasets.DatasetDict())
    stream = datasets.IterableDatasetDict({"train": dataset.to_iterable_dataset()})
    assert [pair.text for pair in pairs(stream)] == list("abcde")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"image": [1], "text": ["a"]}, "column image must be binary, .*Got int64 in the Dataset"),
        ({"image": ["0.jpg"], "text": [7]}, "column text must be text or lists of text. Got int64"),
        ({"picture": ["0.jpg"], "text": ["a"]}, "Got picture, text in the Dataset"),
    ],
)
def test_other_columns_are_refused_at_the_call(columns: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        documents_from(datasets.Dataset.from_dict(columns), task="text-to-image")


def test_options_of_csv_files_and_rows_without_names_are_refused(dataset: Any) -> None:
    with pytest.raises(InvalidInput, match="CSVOptions.encoding is for CSV files. Got 'latin-1' with Dataset"):
        documents_from(dataset, task="text-to-image", csv_options=CSVOptions(encoding="latin-1"))
    with pytest.raises(InvalidInput, match="must have rows with named columns. Got None"):
        pairs(datasets.IterableDataset.from_generator(lambda: iter(())))


def test_other_objects_are_no_data_sets() -> None:
    class Dataset:
        """Has the name alone."""

    assert kind_of_object(Dataset()) == ""
    assert kind_of_object(io.StringIO()) == ""
    assert not is_source(Dataset())
