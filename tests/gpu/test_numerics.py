"""A GPU computes what a CPU computes, bf16 what fp32 does, and a resumed run what a run in one piece does."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from docarray import Document
from PIL import Image

from finetuner.catalogue import fashion
from finetuner.config.run_config import RunConfig
from finetuner.executors.encoder.lane.runner import Runner
from finetuner.executors.encoder.lane.settings import EngineSettings
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.hook import Hook, Progress
from finetuner.executors.trainer.loop.checkpoint import Checkpoint
from finetuner.executors.trainer.loop.clip_task import ClipTask
from finetuner.executors.trainer.loop.grad_cache import cached_backward
from finetuner.executors.trainer.loop.training import Training
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TEXT, VISION, Clip
from finetuner.models.clip_files import load_backbone
from finetuner.models.image_model import ImageModel
from tests.benchmarks.train_speed import vit_b_32
from tests.gpu.image_training import image_model
from tests.gpu.part import FULL, Part

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
Record = Callable[[str, object], None]
FP32, BF16 = EngineSettings(), EngineSettings(precision="bf16")
TEXTS = ["a red dress", "ein blaues Hemd mit langen Ärmeln", "x", "striped socks, worn by a man in the rain"]


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps one precision for each process."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let torch use deterministic kernels alone."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def clip_mini(device: str) -> Clip:
    return load_backbone(find_backbone("clip-mini"), device)


def vit(device: str) -> Clip:
    model = vit_b_32(1, 1, None, "cpu").model
    model.network.to(device)
    return model


def resnet(device: str) -> ImageModel:
    model = image_model(Part("cpu", FULL))
    model.network.to(device)
    return model


def vectors(model: Clip | ImageModel, tower: str, settings: EngineSettings) -> np.ndarray:
    """Return the embeddings of some inputs, as an encoder computes them."""
    runner = Runner(model, tower, settings)
    noise = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    documents = [Document(text=text) for text in TEXTS] if tower == TEXT else [Document(tensor=one) for one in noise]
    return runner.run([runner.prepare(document, lambda uri: b"") for document in documents])


CASES = pytest.mark.parametrize(
    ("load", "tower"),
    [(clip_mini, TEXT), (clip_mini, VISION), (vit, TEXT), (vit, VISION), (resnet, "resnet50")],
    ids=["clip_mini-texts", "clip_mini-images", "vit-texts", "vit-images", "resnet-images"],
)


@CASES
def test_fp32_is_that_of_a_cpu(load: Callable[[str], Clip | ImageModel], tower: str, record_property: Record) -> None:
    difference = float(np.abs(vectors(load("cuda"), tower, FP32) - vectors(load("cpu"), tower, FP32)).max())
    record_property("largest_difference", difference)
    assert difference < 1e-4


@CASES
def test_bf16_is_close_to_fp32(load: Callable[[str], Clip | ImageModel], tower: str, record_property: Record) -> None:
    exact, fast = (vectors(load("cuda"), tower, settings) for settings in (FP32, BF16))
    cosine = float((exact * fast).sum(axis=1).min())
    record_property("lowest_cosine", cosine)
    assert cosine > 0.999
    assert not np.array_equal(exact, fast)


@pytest.mark.parametrize("size", [(160, 200), (375, 500), (1024, 768)], ids=str)
def test_jpegs_decoded_on_the_gpu_get_the_vectors_of_pillow(size: tuple[int, int], record_property: Record) -> None:
    documents = [Document(blob=resized(image.jpeg, size)) for image in fashion("test", items=16)]
    model = clip_mini("cuda")
    fast, exact = Runner(model, VISION, EngineSettings(fast_jpeg=True)), Runner(model, VISION, FP32)
    assert all(fast.gathers(document, None) for document in documents)
    items = fast.prepare_all(documents, [None] * len(documents))
    assert all(item.is_cuda for item in items)
    small = [Document(blob=resized(fashion_image.jpeg, (100, 200))) for fashion_image in fashion("test", items=1)]
    assert fast.prepare_all(small, [None] * len(small)) == [None] * len(small)  # the model reads 80 x 80
    expected = exact.run([exact.prepare(document, lambda uri: b"") for document in documents])
    cosine = float((fast.run(items) * expected).sum(axis=1).min())
    record_property("lowest_cosine", cosine)
    assert cosine > 0.999


@CASES
def test_recorded_passes_are_the_passes(
    load: Callable[[str], Clip | ImageModel], tower: str, record_property: Record
) -> None:
    model = load("cuda")
    documents = [Document(text=f"{text} {number}") for number in range(9) for text in TEXTS]
    if tower != TEXT:
        noise = np.random.default_rng(0).integers(0, 256, (36, 224, 224, 3), dtype=np.uint8)
        documents = [Document(tensor=one) for one in noise]
    eager, recorded = (Runner(model, tower, EngineSettings(cuda_graphs=graphs), 32) for graphs in (False, True))
    items = [eager.prepare(document, lambda uri: b"") for document in documents]
    differences = [
        float(np.abs(eager.run(items[first:last]) - recorded.run(items[first:last])).max())
        for first, last in [(0, 1), (1, 2), (2, 5), (5, 30), (0, 32), (0, 36), (7, 8)]
    ]
    record_property("largest_difference", max(differences))
    assert max(differences) < 1e-4


def resized(blob: bytes, size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(blob)).resize(size).save(file, "JPEG", quality=90)
    return file.getvalue()


class KilledError(Exception):
    """Ends a run as a kill does."""


class Kill(Hook):
    """Ends the run after a step.

    Args:
        step: from 1.
    """

    def __init__(self, step: int) -> None:
        self._step = step

    def after_step(self, progress: Progress) -> None:
        """End it."""
        if progress.step == self._step:
            raise KilledError


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.usefixtures("deterministic")
def test_a_resumed_run_is_bitwise_the_run_in_one_piece(precision: str, tmp_path: Path) -> None:
    whole = tuned(precision)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", 0)
    with pytest.raises(KilledError):
        tuned(precision, hooks=[Kill(3)], checkpoint=checkpoint)
    state = checkpoint.read()
    assert state is not None
    assert 0 < state["step"] < 4
    resumed = tuned(precision, hooks=[Hook()], state=state)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def tuned(precision: str, **rest: Any) -> dict[str, torch.Tensor]:
    """Return the weights of a clip-mini after four steps in two epochs."""
    AcceleratorState._reset_state()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, 80, 80), dtype=np.uint8)
    data = TrainingData(pixels, [(f"a shirt, number {row}", f"ein Hemd, Nummer {row}") for row in range(8)])
    config = RunConfig("clip-mini", train_data="x", epochs=2, batch_size=4, device="cuda", precision=precision, seed=0)
    model = clip_mini("cuda")
    task = ClipTask(model, data, config, 4)
    rest = {"hooks": [Hook()]} | rest
    Training(task, Progress(model), config, learning_rate=1e-4, report=lambda point: None, **rest).run()
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def test_the_cached_gradient_is_that_of_the_whole_batch(record_property: Record) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.Dropout(0.0), torch.nn.Linear(64, 8)).cuda()
    rows = torch.randn(12, 16, device="cuda")

    def loss(outputs: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(outputs @ outputs.T, torch.arange(12, device="cuda"))

    loss(network(rows)).backward()
    whole = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    network.zero_grad()
    cached_backward(lambda chunk: (network(chunk),), list(rows.split(5)), loss)
    found = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    error = max(float((left - right).abs().max()) for left, right in zip(whole, found, strict=True))
    record_property("largest_difference", error)
    assert error < 1e-5
