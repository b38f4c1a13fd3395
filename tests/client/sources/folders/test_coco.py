"""COCO's JSON files: captions, instances, invalid ids and annotations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.folders.coco import coco_documents
from finetuner.sources.kinds import documents_from
from finetuner.sources.tables.csv_file import CSVOptions

IMAGES = [
    {"id": 7, "file_name": "0.jpg", "height": 40},
    {"id": "8", "file_name": "1.jpg"},
    {"id": 9, "file_name": "2.jpg"},
]
CAPTIONS = [
    {"id": 1, "image_id": "8", "caption": " c "},
    {"id": 2, "image_id": 7, "caption": "a"},
    {"id": 3, "image_id": 7, "caption": "b", "segmentation": [[1.5, 2]]},
]
CATEGORIES = [{"id": 1, "name": "cat", "supercategory": "animal"}, {"id": 2, "name": "dog"}]
INSTANCES = [
    {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1]},
    {"id": 2, "image_id": 7, "category_id": 1},
    {"id": 3, "image_id": "8", "category_id": 2},
    {"id": 4, "image_id": 9, "category_id": 1},
    {"id": 5, "image_id": 9, "category_id": 2},
]


def coco(path: Path, **content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"info": {"year": 2017}, "images": IMAGES, "annotations": CAPTIONS, **content}))
    return path


def pairs(path: Path, **options: Any) -> list[Pair]:
    return [read_pair(document) for document in documents_from(path, task="text-to-image", **options)]


def labels(path: Path, **options: Any) -> list[str]:
    documents = documents_from(path, task="image-to-image", **options)
    return [document.tags["finetuner_label"] for document in documents]


def test_captions_are_pairs_in_the_order_of_the_images(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    path = coco(shop / "captions.json")
    with pytest.warns(UserWarning, match=r"passed over 1 entries: 1 image without annotations \(image 9\)"):
        assert pairs(path) == [Pair("a", jpeg(0)), Pair("b", jpeg(0)), Pair("c", jpeg(1))]


@pytest.mark.filterwarnings("ignore:.*passed over")
@pytest.mark.parametrize("folder", ["images", "../train2017", "../images", "../images/train2017", "train2017"])
def test_images_lie_where_coco_has_them(shop: Path, folder: str) -> None:
    path = coco(shop / "annotations/captions_train2017.json")
    images = path.parent / folder
    images.mkdir(parents=True)
    for number in range(3):
        (shop / f"{number}.jpg").rename(images / f"{number}.jpg")
    assert [pair.text for pair in pairs(path)] == ["a", "b", "c"]


def test_instances_label_images_of_one_category(shop: Path) -> None:
    path = coco(shop / "instances.json", annotations=INSTANCES, categories=CATEGORIES)
    with pytest.warns(UserWarning, match=r"passed over 1 entries: 1 image of several categories \(image 9\)"):
        assert labels(path) == ["cat", "dog"]


@pytest.mark.filterwarnings("ignore:.*passed over")
def test_images_are_sampled(shop: Path) -> None:
    images = [{"id": number, "file_name": f"{number % 4}.jpg"} for number in range(40)]
    captions = [{"id": number, "image_id": number // 2, "caption": f"{number}"} for number in range(80)]
    path = coco(shop / "a.json", images=images, annotations=captions)
    assert [pair.text for pair in pairs(path, csv_options=CSVOptions(size=2))] == ["0", "1", "2", "3"]
    some = [pair.text for pair in pairs(path, csv_options=CSVOptions(sampling_rate=0.5))]
    assert some == [pair.text for pair in pairs(path, csv_options=CSVOptions(sampling_rate=0.5))]
    assert 10 < len(some) < 70


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"annotations": [*CAPTIONS, {"id": 4, "image_id": 99, "caption": "x"}]},
            "annotation 4: annotation must have the 'im",
        ),
        ({"annotations": [*CAPTIONS, {"id": 4, "image_id": [7], "caption": "x"}]}, r"annotation 4: .* Got \[7\]"),
        (
            {"annotations": [*CAPTIONS, {"id": 4, "image_id": 7, "caption": ""}]},
            "annotation 4: caption must be a nonempty",
        ),
        (
            {"annotations": [*CAPTIONS, {"id": 4, "image_id": 7}]},
            "annotation 4: caption must be a nonempty text. Got None",
        ),
        ({"annotations": [*CAPTIONS, {"image_id": 99, "caption": "x"}]}, "annotation at position 3: annotation must"),
        ({"annotations": [*CAPTIONS, 3]}, "annotation at position 3: annotation must be an object. Got 3"),
        ({"images": [*IMAGES, {"id": 7, "file_name": "3.jpg"}]}, "image 7: image must have an 'id' of its own"),
        ({"images": [*IMAGES, {"id": 4}]}, "image 4: image must have a 'file_name'. Got None"),
        ({"images": [*IMAGES, {"file_name": "3.jpg"}]}, "image at position 3: image must be an object with an 'id'"),
        (
            {"images": [*IMAGES[1:], {"id": 7, "file_name": "none.jpg"}]},
            "image 7: image must be a file or a URI. Got 'none",
        ),
        ({"images": [*IMAGES[1:], {"id": 7, "file_name": "bad.jpg"}]}, "image 7: .*does not begin like one"),
        ({"images": [*IMAGES[1:], {"id": 7, "file_name": "x" * 9999}]}, "image 7: image must be a file or a URI"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*passed over")
def test_invalid_entries_are_named_by_id_or_left_out(shop: Path, content: dict[str, Any], expected: str) -> None:
    (shop / "bad.jpg").write_bytes(b"no image")
    path = coco(shop / "a.json", **content)
    with pytest.raises(InvalidDocument, match=f"Got [1-3] that cannot be used:\n(.*\n)*  {expected}"):
        documents_from(path, task="text-to-image")
    with pytest.warns(UserWarning, match="left out [1-3] entries"):
        assert {pair.text for pair in pairs(path, on_error="skip")} >= {"c"}


def test_instances_of_unknown_categories_are_invalid(shop: Path) -> None:
    instances = [*INSTANCES[:3], {"id": 4, "image_id": 9, "category_id": 3}]
    path = coco(shop / "a.json", annotations=instances, categories=CATEGORIES)
    with pytest.raises(InvalidDocument, match="annotation 4: .* 'category_id' of a category. Got 3"):
        labels(path)


@pytest.mark.parametrize(
    ("text", "task", "expected"),
    [
        ("{", "text-to-image", "must be JSON. Got an error"),
        ("[" * 100_000, "text-to-image", "must be JSON. Got an error"),
        (
            '[{"image": "0.jpg"}]',
            "text-to-image",
            "an object with 'images' and 'annotations'. Got list in .*jsonl with",
        ),
        ('{"images": []}', "text-to-image", "an object with 'images' and 'annotations'. Got images in"),
        ('{"a": 1}', "text-to-image", "Got neither in"),
        (
            '{"images": {}, "annotations": [{"caption": "a"}]}',
            "text-to-image",
            "'images' of COCO's file must be a list",
        ),
        ('{"images": [], "annotations": [{"caption": "a"}]}', "text-to-image", "annotation at position 0"),
        (
            '{"images": [], "annotations": [{"caption": "a"}]}',
            "image-to-image",
            "must have instances, annotations with 'cat",
        ),
        (
            '{"images": [], "annotations": [{"category_id": 1}]}',
            "text-to-image",
            "must have captions, annotations with 'cap",
        ),
        (
            '{"images": [], "annotations": [{"category_id": 1}]}',
            "image-to-image",
            "'categories' of COCO's file must be a l",
        ),
    ],
)
def test_other_files_are_refused(shop: Path, text: str, task: str, expected: str) -> None:
    (shop / "a.json").write_text(text)
    with pytest.raises((InvalidInput, InvalidDocument), match=expected):
        documents_from(shop / "a.json", task=task)


def test_files_after_one_another_have_their_names_in_errors(shop: Path) -> None:
    good = coco(shop / "a.json", images=IMAGES[:2])
    bad = coco(shop / "b.json", images=IMAGES[:1])
    with pytest.raises(InvalidDocument, match="COCO data must .*\n  .*b.json annotation 1: annotation must"):
        documents_from([good, bad], task="text-to-image")
    with pytest.warns(UserWarning, match="left out 1"):
        found = [*documents_from([good, bad], task="text-to-image", on_error="skip")]
    assert [read_pair(each).text for each in found] == ["a", "b", "c", "a", "b"]


def test_images_may_be_confined_to_a_folder(shop: Path) -> None:
    path = coco(shop / "inner/a.json", images=[{"id": 7, "file_name": "../0.jpg"}], annotations=CAPTIONS[1:])
    assert len(pairs(path)) == 2
    with pytest.raises(InvalidDocument, match="image 7: image must be a file or a URI. Got '../0.jpg'"):
        coco_documents([path], task="text-to-image", on_error="raise", inside=path.parent)
    (path.parent / "link.jpg").symlink_to(shop / "0.jpg")
    path = coco(path, images=[{"id": 7, "file_name": "link.jpg"}], annotations=CAPTIONS[1:])
    with pytest.raises(InvalidDocument, match="Got 'link.jpg'"):
        coco_documents([path], task="text-to-image", on_error="raise", inside=path.parent)
