"""Columns of CSV files: captions, labels, scores, and the delimiter between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from finetuner.documents.pairs import read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from tests.client.sources.made_csv import read, write


def test_scores(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    (document,) = read(write(shop, "a,0.jpg,0.25\n"))
    assert (document.tags["finetuner_score"], read_pair(document).text) == (0.25, "a")
    (document,) = read(write(shop, "1.jpg,0.jpg,-1\n"), task="image-to-image")
    assert [chunk.modality for chunk in document.chunks] == ["image", "image"]
    assert [chunk.blob for chunk in document.chunks] == [jpeg(1), jpeg(0)]
    assert document.tags == {"finetuner_score": -1.0}


def test_labels(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    path = write(shop, "0.jpg,shoe\n1.jpg,7\n")
    documents = read(path, task="image-to-image", is_labeled=True)
    assert [document.tags["finetuner_label"] for document in documents] == ["shoe", "7"]
    assert [document.blob for document in documents] == [jpeg(0), jpeg(1)]
    with pytest.raises(InvalidDocument, match="every row of a file has 2 columns, item and label"):
        read(write(shop, "0.jpg,shoe,1\n"), task="image-to-image", is_labeled=True)
    with pytest.raises(InvalidInput, match="is_labeled=True"):
        read(path, is_labeled=True)


def test_pairs_of_images_with_one_first_column_have_one_label(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    documents = read(write(shop, "0.jpg,1.jpg\n0.jpg,2.jpg\n3.jpg,1.jpg\n"), task="image-to-image")
    found = [(document.tags["finetuner_label"], document.blob) for document in documents]
    numbers = [("0.jpg", 0), ("0.jpg", 1), ("0.jpg", 2), ("3.jpg", 3), ("3.jpg", 1)]
    assert found == [(label, jpeg(number)) for label, number in numbers]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("Kleid, rot;0.jpg", ("Kleid, rot", None)),
        ("0.jpg;Kleid, rot", ("Kleid, rot", None)),
        ("Kleid; rot,0.jpg", ("Kleid; rot", None)),
        ("Kleid, rot;0.jpg;0,5", ("Kleid, rot", 0.5)),
        ("Kleid;0.jpg;0,5", ("Kleid", 0.5)),
        ("Kleid\trot,0.jpg", ("Kleid\trot", None)),
        ("Kleid, rot|0.jpg|0.5", ("Kleid, rot", 0.5)),
        ("Kleid, rot;sub, one/0.jpg", ("Kleid, rot", None)),
    ],
)
def test_the_delimiter_is_the_one_that_gives_images(
    shop: Path, jpeg: Callable[[int], bytes], row: str, expected: tuple[str, float | None]
) -> None:
    (shop / "sub, one").mkdir()
    (shop / "sub, one/0.jpg").write_bytes(jpeg(0))
    documents = read(write(shop, f"{row}\n" * 3))
    found = [(read_pair(document).text, document.tags.get("finetuner_score")) for document in documents]
    assert found == [expected] * 3
    assert read_pair(documents[0]).image == jpeg(0)


def test_the_delimiter_is_found_for_labels_addresses_and_missing_images(shop: Path) -> None:
    (document,) = read(write(shop, "0.jpg;Kleid, rot\n"), task="image-to-image", is_labeled=True)
    assert document.tags["finetuner_label"] == "Kleid, rot"
    remote = read(write(shop, "Kleid, rot;http://nowhere.invalid/x,y\n"), convert_to_blob=False)
    assert remote[0].chunks[1].uri == "http://nowhere.invalid/x,y"
    with pytest.raises(InvalidDocument, match="Got 'missing.jpg', which is not a file"):
        read(write(shop, "Kleid, rot;missing.jpg\n"))


@pytest.mark.parametrize("label", ["nan", "NaN", "<NA>"])
def test_a_missing_label_is_named(shop: Path, label: str) -> None:
    with pytest.raises(InvalidDocument, match=f"line 2: image must have a label. Got '{label}', a missing value"):
        read(write(shop, f"0.jpg,shoe\n1.jpg,{label}\n"), task="image-to-image", is_labeled=True)
