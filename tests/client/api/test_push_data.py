"""`push_data` of files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from docarray import Document

from finetuner.api import library
from finetuner.documents.pairs import Pair, make_pair, read_pair
from finetuner.exceptions import DatasetNotFound, InvalidDocument, InvalidInput
from finetuner.sources.tables.csv_file import CSVOptions


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Document]]:
    """Return the datasets of a Flow without a network."""
    datasets: dict[str, list[Document]] = {}

    def push(_: object, name: str, documents: Iterable[Document]) -> dict[str, Any]:
        datasets[name] = list(documents)
        return {"documents": len(datasets[name])}

    monkeypatch.setattr(library, "connection", lambda: None)
    monkeypatch.setattr(library, "push_documents", push)
    return datasets


@pytest.fixture
def shop(tmp_path: Path, jpeg: Callable[[int], bytes]) -> Path:
    """Return a table with a header, beside its images."""
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
    path = tmp_path / "shop.csv"
    path.write_text("titel,foto,art\na,0.jpg,x\nb,1.jpg,y\nc,none.jpg,z\nd,2.jpg,z\n")
    return path


def test_files_are_pushed(pushed: dict[str, list[Document]], shop: Path, jpeg: Callable[[int], bytes]) -> None:
    columns = {"text": "titel", "image": "foto"}
    with pytest.raises(InvalidDocument, match="line 4: image must be a file"):
        library.push_data("shop", shop, columns=columns)
    assert not pushed
    with pytest.warns(UserWarning, match="left out 1"):
        assert library.push_data("shop", str(shop), columns=columns, on_error="skip") == {"documents": 3}
    assert [read_pair(each) for each in pushed["shop"]] == [Pair(text, jpeg(n)) for n, text in enumerate("abd")]
    labels = {"image": "foto", "label": "art"}
    library.push_data("images", [shop], task="image-to-image", columns=labels, csv_options=CSVOptions(size=2))
    assert [each.tags["finetuner_label"] for each in pushed["images"]] == ["x", "y"]


def test_documents_are_pushed_as_before(pushed: dict[str, list[Document]]) -> None:
    pair = make_pair("a", b"x")
    library.push_data("pairs", [pair])
    assert pushed == {"pairs": [pair]}


def test_arguments_of_files_are_refused_with_documents(pushed: dict[str, list[Document]]) -> None:
    for argument in ({"columns": {"text": "a"}}, {"csv_options": CSVOptions()}, {"task": "x"}, {"on_error": "skip"}):
        with pytest.raises(InvalidInput, match=f"{next(iter(argument))} is for files. Got it with list. Leave it out"):
            library.push_data("pairs", [make_pair("a", b"x")], **argument)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="dataset name"):
        library.push_data("a b", "x.csv")
    with pytest.raises(DatasetNotFound, match="'x.csv', which is neither a file or folder"):
        library.push_data("pairs", "x.csv")
    assert not pushed


def test_a_data_set_of_hugging_face_is_pushed(
    pushed: dict[str, list[Document]], shop: Path, jpeg: Callable[[int], bytes]
) -> None:
    import datasets

    columns = {"foto": [str(shop.parent / f"{number}.jpg") for number in range(3)], "title": [["a", "b"], ["c"], ["d"]]}
    data = datasets.Dataset.from_dict(columns).cast_column("foto", datasets.Image())
    library.push_data("shop", data, columns={"image": "foto"})
    assert [read_pair(each) for each in pushed["shop"]] == [
        Pair(text, jpeg(number)) for text, number in zip("abcd", (0, 0, 1, 2), strict=True)
    ]
