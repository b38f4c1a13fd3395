"""Flickr8k, Flickr30k and COCO captions from made files in Karpathy's layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuner.benchmark.sets import find_set
from finetuner.catalogue import CatalogueImage
from finetuner.documents.pairs import read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.rejects import ON_ERROR


def pairs(name: str, folder: Path, split: str, on_error: str = "raise") -> list[tuple[str, bytes]]:
    return [(pair.text, pair.image) for pair in map(read_pair, find_set(name).documents(folder, split, on_error))]


def expected(images: list[CatalogueImage]) -> list[tuple[str, bytes]]:
    return [(caption, image.jpeg) for image in images for caption in image.captions.values()]


def edit(folder: Path, change: Callable[[list[Any]], object]) -> None:
    path = next(folder.glob("*.json"))
    content = json.loads(path.read_text())
    change(content["images"])
    path.write_text(json.dumps(content))


def test_every_split_has_its_images_with_all_their_captions(flickr8k: Path, images: list[CatalogueImage]) -> None:
    for split, part in (("train", images[:8]), ("val", images[8:12]), ("test", images[12:])):
        assert pairs("flickr8k", flickr8k, split) == expected(part)


def test_coco_trains_on_restval_and_finds_images_by_filepath(
    karpathy: Callable[..., Path], images: list[CatalogueImage]
) -> None:
    root = karpathy("coco", ".", ("train", "train2014"), ("restval", "val2014"), ("test", "val2014"))
    assert pairs("coco", root, "train") == expected(images[:2])
    assert pairs("coco", root, "test") == expected(images[2:3])


def test_flickr30k_may_have_a_folder_of_either_name(
    karpathy: Callable[..., Path], images: list[CatalogueImage]
) -> None:
    root = karpathy("flickr30k", "flickr30k-images", ("test", ""))
    assert pairs("flickr30k", root, "test") == expected(images[:1])
    (root / "flickr30k-images").rename(root / "images")
    assert pairs("flickr30k", root, "test") == expected(images[:1])


def test_a_missing_file_is_named_with_its_path(tmp_path: Path, flickr8k: Path) -> None:
    with pytest.raises(InvalidInput, match=r"captions must be in '.*/nowhere/dataset_coco.json'. Got no readable"):
        pairs("coco", tmp_path / "nowhere", "test")
    (flickr8k / "Flicker8k_Dataset").rename(flickr8k / "elsewhere")
    with pytest.raises(InvalidInput, match=r"images must be in '.*/Flicker8k_Dataset' or '.*/Images'"):
        pairs("flickr8k", flickr8k, "test")


def test_a_caption_without_image_is_named_at_the_call(flickr8k: Path, images: list[CatalogueImage]) -> None:
    (flickr8k / "Flicker8k_Dataset" / f"{images[-1].name}.jpg").unlink()
    with pytest.raises(InvalidDocument, match=rf"(?s)images\[23\]: caption '{images[-1].captions['en'][:20]}.*Copy it"):
        find_set("flickr8k").documents(flickr8k, "test", "raise")
    with pytest.warns(UserWarning, match="left out 1 entries"):
        assert pairs("flickr8k", flickr8k, "test", "skip") == expected(images[12:-1])
    assert pairs("flickr8k", flickr8k, "train") == expected(images[:8])


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "a/../../secret.jpg", "..\\secret.jpg", "x\0.jpg"])
@pytest.mark.parametrize("key", ["filename", "filepath"])
def test_a_path_that_leaves_the_folder_is_refused(flickr8k: Path, name: str, key: str) -> None:
    (flickr8k / "secret.jpg").write_bytes(next((flickr8k / "Flicker8k_Dataset").iterdir()).read_bytes())
    edit(flickr8k, lambda images: images[-1].update({key: name}))
    with pytest.raises(InvalidDocument, match=r"images\[23\]: image must be below '.*Flicker8k_Dataset'"):
        pairs("flickr8k", flickr8k, "test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"filename": None}, r"image must have a 'filename'. Got None"),
        ({"sentences": []}, r"must have 'sentences'"),
        ({"sentences": [{"raw": "a dress"}, {"tokens": ["a"]}]}, r"must have 'sentences'"),
        ({"sentences": "a dress"}, r"must have 'sentences'"),
        ({"filename": "x" * 5000}, r"must have its image"),
    ],
)
def test_a_malformed_image_is_named(flickr8k: Path, change: dict[str, Any], message: str) -> None:
    edit(flickr8k, lambda images: images[-1].update(change))
    with pytest.raises(InvalidDocument, match=rf"images\[23\]: .*{message}"):
        pairs("flickr8k", flickr8k, "test")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"images": 3}', "no json", "[" * 100_000], ids=range(6))
@pytest.mark.parametrize("on_error", ON_ERROR)
def test_another_file_is_refused_with_either_on_error(flickr8k: Path, content: str, on_error: str) -> None:
    (flickr8k / "dataset_flickr8k.json").write_text(content)
    with pytest.raises(InvalidInput, match=r"must be (JSON|an object with 'images'|a list of objects)"):
        pairs("flickr8k", flickr8k, "test", on_error)


def test_no_image_in_the_split_and_an_unknown_set_are_refused(karpathy: Callable[..., Path]) -> None:
    with pytest.raises(InvalidInput, match=r"split 'test', must hold at least one usable entry"):
        pairs("flickr8k", karpathy("flickr8k", "Images", ("train", "")), "test")
    with pytest.raises(InvalidInput, match=r"set must be one of flickr8k, .*Got 'flickr9k'. Nearest: flickr8k"):
        find_set("flickr9k")
