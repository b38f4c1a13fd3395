"""JPEGs that are decoded many at once, here by torchvision on the CPU: what a GPU adds is in tests/gpu."""

from __future__ import annotations

import asyncio
import base64
import io

import numpy as np
import pytest
import torch
from docarray import Document, DocumentArray
from PIL import Image

from finetuner.exceptions import ImageTooLarge
from finetuner.executors.encoder.lane import gpu_jpeg, runner
from finetuner.executors.encoder.lane.gpu_jpeg import GpuDecoder
from finetuner.executors.encoder.lane.jpeg_pixels import jpeg_pixels
from finetuner.executors.vision_encoder.executor import VisionEncoder
from finetuner.models.clip import Clip
from finetuner.workspace.folder import Workspace
from tests.encoder.conftest import Start
from tests.encoder.lane.gate import send
from tests.encoder.lane.test_jpeg_pixels import jpeg, png, rotated

CPU = torch.device("cpu")


def damaged() -> bytes:
    """Return a file with a whole header, whose pixels libjpeg refuses to decode."""
    blob = jpeg()
    table = blob.index(b"\xff\xc4")  # Huffman codes
    return blob[: table + 5] + b"\xff" * 16 + blob[table + 21 :]


def stating_two_sizes() -> bytes:
    blob = jpeg()
    frame = blob.index(b"\xff\xc0")
    segment = blob[frame : frame + 2 + int.from_bytes(blob[frame + 2 : frame + 4], "big")]
    return blob[:frame] + segment + blob[frame:]


def test_files_of_several_sizes_become_what_one_at_a_time_does(clip_mini: Clip) -> None:
    blobs = [jpeg(), jpeg(240, 300), jpeg(), jpeg(mode="L"), jpeg(progressive=True)]
    found = GpuDecoder(clip_mini.preprocess, CPU)(blobs)
    for blob, pixels in zip(blobs, found, strict=True):
        expected = jpeg_pixels(clip_mini.preprocess, blob)
        assert expected is not None
        assert (pixels.int() - expected.int()).abs().max() <= 1


def test_a_file_that_it_cannot_decode_costs_the_others_nothing(clip_mini: Clip) -> None:
    refused = ValueError("of an earlier step")
    others = [damaged(), png(), rotated(), jpeg()[:-500], stating_two_sizes(), jpeg(300, 100), b"", None]
    found = GpuDecoder(clip_mini.preprocess, CPU)([jpeg(), *others, refused, jpeg()])
    assert [row for row, item in enumerate(found) if isinstance(item, torch.Tensor)] == [0, 10]
    assert found[1:9] == [None] * 8
    assert found[9] is refused


def test_an_image_past_the_limits_is_an_error_before_it_is_decoded(clip_mini: Clip) -> None:
    found = GpuDecoder(clip_mini.preprocess, CPU)([jpeg(16_000, 16), jpeg()])
    assert isinstance(found[0], ImageTooLarge)
    assert isinstance(found[1], torch.Tensor)


def test_no_more_pixels_than_the_limit_are_decoded_at_once(clip_mini: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_jpeg, "MOST_PIXELS", 2 * 300 * 200)
    decode, sizes = gpu_jpeg.decode_jpeg, list[int]()

    def counted(blobs: list[torch.Tensor], **options: object) -> object:
        sizes.append(len(blobs))
        return decode(blobs, **options)

    monkeypatch.setattr(gpu_jpeg, "decode_jpeg", counted)
    found = GpuDecoder(clip_mini.preprocess, CPU)([jpeg()] * 3 + [jpeg(600, 600), jpeg()])
    assert sizes == [2, 1, 1, 1]
    assert all(isinstance(item, torch.Tensor) for item in found)


def test_without_nvjpeg_the_cpu_decodes(clip_mini: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support")

    assert GpuDecoder.find(clip_mini.preprocess, CPU) is not None
    monkeypatch.setattr(gpu_jpeg, "decode_jpeg", missing)
    assert GpuDecoder.find(clip_mini.preprocess, CPU) is None


def test_a_request_of_all_kinds_gets_the_vectors_and_errors_of_one_at_a_time(
    start: Start, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def documents() -> DocumentArray:
        pixels = np.asarray(Image.open(io.BytesIO(png())))
        return DocumentArray(
            [
                Document(blob=jpeg()),
                Document(blob=damaged()),
                Document(blob=png()),
                Document(uri="data:image/jpeg;base64," + base64.b64encode(jpeg(240, 300)).decode()),
                Document(uri="data:image/jpeg;base64,!"),
                Document(tensor=pixels),
                Document(blob=rotated()),
                Document(blob=jpeg(16_000, 16)),
            ]
        )

    alone = asyncio.run(send(start(VisionEncoder, workspace, fast_jpeg=True), documents()))
    decoded: list[int] = []

    class Counting(GpuDecoder):
        def __call__(self, files: object) -> list[object]:
            found = super().__call__(files)  # type: ignore[arg-type]
            decoded.extend(isinstance(item, torch.Tensor) for item in found)
            return found

    monkeypatch.setattr(runner, "_gpu_decoder", lambda model, settings: Counting(model.preprocess, CPU))
    together = asyncio.run(send(start(VisionEncoder, workspace, fast_jpeg=True), documents()))
    assert sum(decoded) == 2
    assert [document.tags for document in together] == [document.tags for document in alone]
    for one, other in zip(together, alone, strict=True):
        if other.embedding is None:
            assert one.embedding is None
        else:
            assert float(one.embedding @ other.embedding) > 0.9999
    assert [document.embedding is None for document in together] == [row in (1, 4, 7) for row in range(8)]
