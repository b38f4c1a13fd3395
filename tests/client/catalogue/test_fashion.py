"""The fashion catalogue: determinism, splits, images and errors."""

import io
import subprocess
import sys
from itertools import islice
from random import Random

import numpy as np
import pytest
from PIL import Image

from finetuner.catalogue import CatalogueImage, fashion
from finetuner.catalogue.designs import GARMENTS, SPLITS, designs, split_of
from finetuner.catalogue.drawing.canvas import Canvas, Pose
from finetuner.catalogue.drawing.garments import garment_parts
from finetuner.catalogue.drawing.occlusions import BEHIND, IN_FRONT, occlude
from finetuner.catalogue.drawing.parts import Cut
from finetuner.catalogue.drawing.photograph import SIDE
from finetuner.catalogue.fashion import IMAGES_PER_ITEM, ITEMS

FINGERPRINT = """
import hashlib
from finetuner.catalogue import fashion
digest = hashlib.sha256()
for split in {splits}:
    for image in fashion(split, items=3):
        if split == "test":
            digest.update(image.name.encode() + image.jpeg + repr(dict(image.captions)).encode())
print(digest.hexdigest())
"""


def fingerprint(splits: tuple[str, ...], hash_seed: str) -> str:
    """Return a digest of three test items, made in a fresh process with the given hash seed."""
    code = FINGERPRINT.format(splits=splits)
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.process
def test_the_same_seed_gives_the_same_bytes_in_any_process_and_order() -> None:
    assert fingerprint(("test",), "1") == fingerprint(("train", "validation", "test"), "2")


def test_another_seed_gives_other_images() -> None:
    first, other = next(fashion("test")), next(fashion("test", seed=1))
    assert first.jpeg != other.jpeg


def test_the_first_items_do_not_depend_on_the_number_of_items() -> None:
    assert list(fashion("validation", items=2)) == list(fashion("validation", items=5))[: 2 * IMAGES_PER_ITEM]


def test_no_design_is_in_two_splits_or_twice_in_one() -> None:
    found: dict[str, list[object]] = {split: [] for split in SPLITS}
    for _, design in islice(designs(0), 3000):
        found[split_of(design)].append(design)
    everything = [design for split in SPLITS for design in found[split]]
    assert len(set(everything)) == len(everything)
    for split in SPLITS:
        assert len(found[split]) >= ITEMS[split], f"{split} would need more than 3000 designs"


def test_a_design_keeps_its_split_under_every_seed() -> None:
    train = {design for _, design in islice(designs(0), 2000) if split_of(design) == "train"}
    test = {design for _, design in islice(designs(1), 2000) if split_of(design) == "test"}
    assert not train & test


def test_splits_share_no_item_ids() -> None:
    items = {split: {image.item for image in fashion(split, items=8)} for split in SPLITS}
    assert sum(len(ids) for ids in items.values()) == len(set.union(*items.values())) == 24


def test_every_item_has_two_different_images_with_stable_names() -> None:
    images = list(fashion("validation", items=4))
    assert [image.name for image in images[:2]] == [f"{images[0].item}-1", f"{images[0].item}-2"]
    for first, second in zip(images[::2], images[1::2], strict=True):
        assert first.item == second.item
        assert first.jpeg != second.jpeg


def test_images_are_small_rgb_jpegs_and_not_blank() -> None:
    for image in fashion("test", items=10):
        opened = Image.open(io.BytesIO(image.jpeg))
        assert (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", (SIDE, SIDE))
        assert len(image.jpeg) < 12_000
        assert np.asarray(opened, dtype=np.float32).std() > 5


def test_an_image_is_frozen_and_captioned_in_both_languages() -> None:
    image = next(fashion("train"))
    assert isinstance(image, CatalogueImage)
    assert set(image.captions) == {"en", "de"}
    with pytest.raises(AttributeError):
        image.item = "other"  # type: ignore[misc]


@pytest.mark.parametrize("split", ["", "Train", "dev"])
def test_an_unknown_split_is_an_error_at_once(split: str) -> None:
    with pytest.raises(ValueError, match=r"split must be one of train, validation, test\. Got"):
        fashion(split)


@pytest.mark.parametrize("items", [0, -3, 5001])
def test_too_few_or_too_many_items_are_an_error_at_once(items: int) -> None:
    with pytest.raises(ValueError, match=rf"items must be 1 to 5000\. Got {items}"):
        fashion("train", items=items)


@pytest.mark.parametrize("garment", GARMENTS)
def test_every_garment_is_cut_from_fabric_within_the_image(garment: str) -> None:
    choices = GARMENTS[garment]
    for sleeve in choices.sleeve:
        for length in choices.length:
            parts = garment_parts(Cut(garment, sleeve, length, "wide", choices.neck[0], swing=0.6))
            assert any(part.kind == "fabric" for part in parts)
            assert all(abs(x) <= 1.3 and abs(y) <= 1.3 for part in parts for x, y in part.points)


def test_every_occlusion_changes_the_image() -> None:
    for occlusion in BEHIND + IN_FRONT:
        canvas = Canvas(Image.new("RGB", (120, 120), (250, 0, 250)), Pose())
        occlude(canvas, occlusion, Random(0))
        assert len(canvas.image.getcolors(20_000) or []) > 1, f"{occlusion} left no trace"
    with pytest.raises(ValueError, match=r"occlusion must be one of .* Got 'cloud'"):
        occlude(canvas, "cloud", Random(0))
