"""Fashion captioning from made files in the makers' layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetuner.benchmark.sets import find_set
from finetuner.benchmark.sets.fashion_captioning import split_of
from finetuner.catalogue import CatalogueImage
from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument


def pairs(name: str, folder: Path, split: str, on_error: str = "raise") -> list[Pair]:
    return list(map(read_pair, find_set(name).documents(folder, split, on_error)))


class Facad:
    """A made `meta_all_129927.json` with its images: two colours an item, two images a colour."""

    def __init__(self, root: Path, images: list[CatalogueImage]) -> None:
        self.root = root
        (root / "images").mkdir(parents=True)
        self.items: list[dict[str, Any]] = []
        for number in range(0, len(images), 2):
            colours = []
            for image in images[number : number + 2]:
                (root / "images" / f"{image.name}.jpeg").write_bytes(image.jpeg)
                colours.append(
                    {
                        "color": "Gold",
                        "0": f"https://n.nordstrommedia.com/id/sr3/{image.name}.jpeg?crop=pad&w=60&h=90",
                        "1": f"https://n.nordstrommedia.com/id/sr3/{image.name}-back.jpeg?crop=pad&w=60&h=90",
                    }
                )
            self.items.append(
                {
                    "id": number,
                    "images": colours,
                    "title": "a title",
                    "description": images[number].captions["en"],
                    "detail_info": "DETAILS & CARE\nFrom the details.\nImported",
                    "categoryid": 30,
                    "category": "dress",
                    "attr": ["nah", "red"],
                    "attrid": [0, 7],
                }
            )

    def pairs(self, split: str, on_error: str = "raise") -> list[Pair]:
        (self.root / "meta_all_129927.json").write_text(json.dumps(self.items))
        return pairs("fashion-captioning", self.root, split, on_error)


@pytest.fixture
def facad(tmp_path: Path, images: list[CatalogueImage]) -> Facad:
    return Facad(tmp_path / "facad", images)


def test_each_colour_is_a_pair(facad: Facad, images: list[CatalogueImage]) -> None:
    expected = [
        Pair(images[number].captions["en"], image.jpeg, label=str(number))
        for number in range(0, len(images), 2)
        if split_of(number) == "train"
        for image in images[number : number + 2]
    ]
    assert facad.pairs("train") == expected
    assert expected


def test_splits_are_eighty_ten_ten_and_disjoint() -> None:
    splits = [split_of(number) for number in range(10_000)]
    assert {name: round(splits.count(name) / 10_000, 1) for name in set(splits)} == {
        "train": 0.8,
        "val": 0.1,
        "test": 0.1,
    }
    assert splits == [split_of(str(number)) for number in range(10_000)]


def test_the_details_replace_a_missing_description(facad: Facad) -> None:
    for item in facad.items:
        item["description"] = ""
    assert {pair.text for pair in facad.pairs("train")} == {"From the details."}
    for item in facad.items:
        item["detail_info"] = None
    with pytest.raises(InvalidDocument, match=r"item must have a 'description'"):
        facad.pairs("train")


@pytest.mark.parametrize(
    ("colours", "message"),
    [
        (
            [{"color": "Gold", "0": "https://x/sr3/gone.jpeg?w=60"}],
            r"must have its image. Got no file '.*/gone.jpeg'",
        ),
        ([{"color": "Gold"}], r"must have its image. Got None as its URL"),
        ([{"color": "Gold", "0": "http://["}], r"must have its image. Got 'http://\['"),
        ([], r"must have its image. Got None as its URL"),
        ([{"color": "Gold", "0": "https://x/.."}], r"image must be below '.*/images'. Got '..'"),
    ],
)
def test_a_caption_without_image_is_named(facad: Facad, colours: list[Any], message: str) -> None:
    item = next(item for item in facad.items if split_of(item["id"]) == "train")
    whole = facad.pairs("train")
    item["images"] = colours
    with pytest.raises(InvalidDocument, match=rf"item {item['id']}, colour 0: .*{message}"):
        facad.pairs("train")
    with pytest.warns(UserWarning, match="left out 1 entries"):
        assert facad.pairs("train", "skip") == [pair for pair in whole if pair.label != str(item["id"])]
