"""German Fashion12k, fashion captioning and UKBench from made files in their formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetuner.benchmark.sets import find_set
from finetuner.benchmark.sets.fashion_captioning import split_of
from finetuner.catalogue import CatalogueImage
from finetuner.documents.labelled import read_labelled
from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput


def pairs(name: str, folder: Path, split: str, on_error: str = "raise") -> list[Pair]:
    return list(map(read_pair, find_set(name).documents(folder, split, on_error)))


def test_fashion12k_has_one_pair_a_row(fashion12k: Path, images: list[CatalogueImage]) -> None:
    for split, part in (("train", images[:16]), ("test", images[16:])):
        assert pairs("fashion12k", fashion12k, split) == [Pair(one.captions["de"], one.jpeg) for one in part]


def test_fashion12k_lies_flat_or_as_the_hub_converts_it_too(fashion12k: Path) -> None:
    before = pairs("fashion12k", fashion12k, "test")
    (fashion12k / "default" / "test").mkdir(parents=True)
    path = next((fashion12k / "data").glob("test-*")).rename(fashion12k / "default" / "test" / "0000.parquet")
    assert pairs("fashion12k", fashion12k, "test") == before
    path.rename(fashion12k / "test-00000-of-00001.parquet")
    assert pairs("fashion12k", fashion12k, "test") == before


def test_fashion12k_names_a_missing_file_or_shard(fashion12k: Path) -> None:
    path = next((fashion12k / "data").glob("test-*"))
    path = path.rename(path.with_name("test-00001-of-00002-0123456789abcdef.parquet"))
    with pytest.raises(InvalidInput, match=r"split 'test' must have all its shards. Got none of number 0"):
        pairs("fashion12k", fashion12k, "test")
    path.unlink()
    with pytest.raises(InvalidInput, match=r"split 'test' must lie in '.*/data/test-\*.parquet'. Got no such file"):
        pairs("fashion12k", fashion12k, "test")


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


def test_fashion_captioning_has_a_pair_for_each_colour(facad: Facad, images: list[CatalogueImage]) -> None:
    expected = [
        Pair(images[number].captions["en"], image.jpeg, label=str(number))
        for number in range(0, len(images), 2)
        if split_of(number) == "train"
        for image in images[number : number + 2]
    ]
    assert facad.pairs("train") == expected
    assert expected


def test_fashion_captioning_splits_ten_to_one_and_no_item_is_in_two() -> None:
    splits = [split_of(number) for number in range(10_000)]
    assert {name: round(splits.count(name) / 10_000, 1) for name in set(splits)} == {
        "train": 0.8,
        "val": 0.1,
        "test": 0.1,
    }
    assert splits == [split_of(str(number)) for number in range(10_000)]


def test_fashion_captioning_takes_the_details_where_the_description_is_gone(facad: Facad) -> None:
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
        ([{"color": "Gold"}], r"must have its image. Got None as its address"),
        ([{"color": "Gold", "0": "http://["}], r"must have its image. Got 'http://\['"),
        ([], r"must have its image. Got None as its address"),
        ([{"color": "Gold", "0": "https://x/.."}], r"image must lie below '.*/images'. Got '..'"),
    ],
)
def test_fashion_captioning_names_a_caption_without_image(facad: Facad, colours: list[Any], message: str) -> None:
    item = next(item for item in facad.items if split_of(item["id"]) == "train")
    whole = facad.pairs("train")
    item["images"] = colours
    with pytest.raises(InvalidDocument, match=rf"item {item['id']}, colour 0: .*{message}"):
        facad.pairs("train")
    with pytest.warns(UserWarning, match="left out 1 entries"):
        assert facad.pairs("train", "skip") == [pair for pair in whole if pair.label != str(item["id"])]


def test_ukbench_labels_four_images_alike(ukbench: Path, images: list[CatalogueImage]) -> None:
    for split, first, part in (("train", 0, images[:12]), ("test", 250, images[12:])):
        found = read_labelled(find_set("ukbench").documents(ukbench, split, "raise"))
        assert [image.image for image in found] == [image.jpeg for image in part]
        assert [image.label for image in found] == [str(first + number // 4) for number in range(12)]


def test_ukbench_names_what_is_missing(ukbench: Path, tmp_path: Path) -> None:
    documents = find_set("ukbench").documents
    (ukbench / "full" / "ukbench01006.jpg").unlink()
    with pytest.raises(InvalidDocument, match=r"object 251: object must have 4 images. Got no file '.*01006.jpg'"):
        documents(ukbench, "test", "raise")
    with pytest.warns(UserWarning, match="left out 1 entries"):
        assert [one.label for one in read_labelled(documents(ukbench, "test", "skip"))] == ["250"] * 4 + ["252"] * 4
    with pytest.raises(InvalidInput, match=r"split 'test' must begin with '.*/ukbench01000.jpg'"):
        documents(tmp_path, "test", "raise")
