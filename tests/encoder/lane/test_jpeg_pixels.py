"""JPEGs by torchvision: the pixels of Pillow's way within rounding, and Pillow's way for all that is not plain."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from docarray import Document
from PIL import Image

from finetuner.documents.images import decode
from finetuner.exceptions import ImageTooLarge, InvalidInput
from finetuner.executors.encoder.lane.jpeg_pixels import jpeg_pixels
from finetuner.executors.encoder.lane.runner import Runner
from finetuner.executors.encoder.lane.settings import EngineSettings
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import VISION, Clip
from finetuner.models.clip_files import load_backbone
from finetuner.models.image_model import ImagePreprocess, image_transform
from finetuner.models.pixels import cropped


@pytest.fixture(scope="module")
def clip_mini() -> Clip:
    return load_backbone(find_backbone("clip-mini"))


def jpeg(width: int = 300, height: int = 200, mode: str = "RGB", **options: Any) -> bytes:
    """Return a file of smooth colours with some noise."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, width)[None, :, None] + rng.integers(0, 50, (height, width, 3))
    file = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "blob",
    [
        jpeg(),
        jpeg(200, 300),
        jpeg(1500, 1000, quality=95),
        jpeg(60, 50),
        jpeg(mode="L"),
        jpeg(progressive=True),
        jpeg(subsampling=0),
    ],
    ids=["wide", "high", "large", "small", "grey", "progressive", "444"],
)
@pytest.mark.parametrize("of", ["clip-mini", "timm"])
def test_the_pixels_are_those_of_pillow_within_rounding(blob: bytes, of: str, clip_mini: Clip) -> None:
    timm = image_transform(ImagePreprocess(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear"))
    preprocess = clip_mini.preprocess if of == "clip-mini" else timm
    found = jpeg_pixels(preprocess, blob)
    assert found is not None
    expected = cropped(preprocess, decode(blob))
    assert found.dtype == torch.uint8
    assert found.shape == expected.shape
    difference = np.abs(found.numpy().astype(int) - expected.astype(int))
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.05


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(exif=exif.tobytes())


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (100, 80), "red").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "blob",
    [
        rotated(),
        png(),
        jpeg(mode="CMYK"),
        jpeg()[:-500],
        jpeg() + b"more",
        b"",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff" + b"rubbish" * 99 + b"\xff\xd9",
    ],
    ids=["rotated", "png", "cmyk", "cut", "longer", "empty", "no image", "rubbish"],
)
def test_what_only_pillow_can_tell_is_left_to_it(blob: bytes, clip_mini: Clip) -> None:
    assert jpeg_pixels(clip_mini.preprocess, blob) is None


def test_an_image_past_the_limits_is_refused_before_it_is_decoded(clip_mini: Clip) -> None:
    with pytest.raises(ImageTooLarge, match="long as wide"):
        jpeg_pixels(clip_mini.preprocess, jpeg(16_000, 16))


def test_the_setting_reaches_the_runner_which_reads_each_file_once(clip_mini: Clip) -> None:
    reads: list[str] = []
    files = {"https://a/jpeg": jpeg(), "https://a/png": png()}

    def read(uri: str) -> bytes:
        reads.append(uri)
        return files[uri]

    runner = Runner(clip_mini, VISION, EngineSettings(fast_jpeg=True))
    expected = jpeg_pixels(clip_mini.preprocess, jpeg())
    assert expected is not None
    assert torch.equal(runner.prepare(Document(uri="https://a/jpeg"), read), expected)
    assert torch.equal(runner.prepare(Document(blob=jpeg()), read), expected)
    by_pillow = torch.from_numpy(cropped(clip_mini.preprocess, decode(png())).copy())
    assert torch.equal(runner.prepare(Document(uri="https://a/png"), read), by_pillow)
    assert reads == list(files)


def test_recorded_passes_need_a_gpu_and_an_uncompiled_network(clip_mini: Clip) -> None:
    with pytest.raises(InvalidInput, match=r"cuda_graphs needs a room on a GPU\. Got device cpu"):
        Runner(clip_mini, VISION, EngineSettings(cuda_graphs=True))
    with pytest.raises(InvalidInput, match="cuda_graphs needs engine torch without compile"):
        EngineSettings(cuda_graphs=True, compile=True)
    with pytest.raises(InvalidInput, match="cuda_graphs needs engine torch without compile"):
        EngineSettings(cuda_graphs=True, engine="onnx")


def test_it_excludes_draft() -> None:
    with pytest.raises(InvalidInput, match="fast_jpeg decodes every pixel. Got draft 4"):
        EngineSettings(fast_jpeg=True, draft=4)
