"""UKBench from made files with the names of the published ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetuner.benchmark.sets import find_set
from finetuner.catalogue import CatalogueImage
from finetuner.documents.labelled import read_labelled
from finetuner.exceptions import InvalidDocument, InvalidInput


def test_four_images_share_a_label(ukbench: Path, images: list[CatalogueImage]) -> None:
    for split, first, part in (("train", 0, images[:12]), ("test", 250, images[12:])):
        found = read_labelled(find_set("ukbench").documents(ukbench, split, "raise"))
        assert [image.image for image in found] == [image.jpeg for image in part]
        assert [image.label for image in found] == [str(first + number // 4) for number in range(12)]


def test_a_missing_image_is_named(ukbench: Path, tmp_path: Path) -> None:
    documents = find_set("ukbench").documents
    (ukbench / "full" / "ukbench01006.jpg").unlink()
    with pytest.raises(InvalidDocument, match=r"object 251: object must have 4 images. Got no file '.*01006.jpg'"):
        documents(ukbench, "test", "raise")
    with pytest.warns(UserWarning, match="left out 1 entries"):
        assert [one.label for one in read_labelled(documents(ukbench, "test", "skip"))] == ["250"] * 4 + ["252"] * 4
    with pytest.raises(InvalidInput, match=r"split 'test' must begin with '.*/ukbench01000.jpg'"):
        documents(tmp_path, "test", "raise")
