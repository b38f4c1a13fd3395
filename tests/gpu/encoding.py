"""Encoding without Jina: the lane's runner on tensors and tokens, the lane on JPEGs and texts, a re-encode."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from docarray import Document
from prometheus_client import CollectorRegistry

from finetuner.executors.encoder.lane.lane import Lane
from finetuner.executors.encoder.lane.metrics import LaneMetrics
from finetuner.executors.encoder.lane.runner import Runner
from finetuner.executors.encoder.lane.settings import EngineSettings, LaneSettings
from finetuner.models.clip import TEXT, VISION
from tests.benchmarks.train_speed import SET, drawn_captions, vit_b_32, write_jpegs
from tests.gpu.part import Part

IN_FLIGHT = 8  # requests
RE_ENCODE_SECONDS = 30  # at most


def figures(part: Part) -> Iterator[tuple[str, Any]]:
    """Yield the figures of encoding."""
    texts = drawn_captions(part.sizes.batch)
    yield from _texts(part, texts)
    for settings in _settings(part):
        for name, tower in (("images", VISION), ("tokens", TEXT)):
            way = "_compiled" if settings.compile else "_graphs" if settings.cuda_graphs else ""
            label = f"{name}_per_second_{settings.precision}{way}"
            yield label, _by_batch(part, tower, settings, texts)
        if settings == _settings(part)[0]:
            yield from _jpegs(part)


def _by_batch(part: Part, tower: str, settings: EngineSettings, texts: Sequence[str]) -> dict[str, float]:
    """Return items a second of the runner by their number in a forward pass."""
    runner = _runner(part, tower, settings)
    items = _images(part) if tower == VISION else [_prepared(runner, Document(text=text)) for text in texts]
    return {
        str(size): round(part.rate(lambda: len(runner.run(items[:size]))), 1)  # noqa: B023
        for size in _batches(part)
    }


def _settings(part: Part) -> Sequence[EngineSettings]:
    compiled = (EngineSettings(precision=_precision(part), compile=True),) if part.sizes.compiles else ()
    half = tuple(EngineSettings(precision="bf16", cuda_graphs=graphs) for graphs in (False, True) if part.on_gpu)
    return *half, EngineSettings(), *compiled


def _batches(part: Part) -> Sequence[int]:
    return sorted({min(size, part.sizes.batch) for size in (1, 32, 256, 1024)})


def _runner(part: Part, tower: str, settings: EngineSettings) -> Runner:
    return Runner(vit_b_32(1, 1, part.sizes.layers, part.device).model, tower, settings, part.sizes.batch)


def _precision(part: Part) -> str:
    return "bf16" if part.on_gpu else "fp32"


def _images(part: Part) -> list[torch.Tensor]:
    pixels = np.random.default_rng(0).integers(0, 255, (part.sizes.batch, 3, 224, 224), dtype=np.uint8)
    return list(torch.from_numpy(pixels))


def _jpegs(part: Part) -> Iterator[tuple[str, Any]]:
    """Yield the figures of images that arrive as JPEGs of 500x375."""
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        documents = [Document(blob=pair.image) for pair in write_jpegs(Path(name), part.sizes.jpegs, SET)]
    settings = LaneSettings(batch_size=min(256, part.sizes.batch), workers=cores, queue_size=100_000)
    few, some = documents[: len(documents) // 64 or 1], documents[: len(documents) // 4 or 1]
    with ThreadPoolExecutor(cores) as pool:
        for name, fast in (("pillow", False), ("torchvision", True)):
            runner = _runner(part, VISION, EngineSettings(precision=_precision(part), fast_jpeg=fast))
            prepare = partial(_prepared, runner)
            found = {
                "prepared_1_thread": part.rate(lambda: len([*map(prepare, few)])),  # noqa: B023
                f"prepared_{cores}_threads": part.rate(lambda: len([*pool.map(prepare, some)])),  # noqa: B023
                "encoded": _through_lane(runner, documents, settings, len(documents)),  # decoded by a GPU that can
            }
            yield f"jpegs_per_second_by_{name}", {key: round(value, 1) for key, value in found.items()}
            yield f"decoded_on_gpu_by_{name}", runner.gathers(documents[0], None)
    count = round(min(part.sizes.documents, RE_ENCODE_SECONDS * found["encoded"]))
    yield "re_encode", {"images": count, "per_second": round(_through_lane(runner, documents, settings, count), 1)}


def _texts(part: Part, texts: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the figures of texts that arrive as strings."""
    model = vit_b_32(1, 1, part.sizes.layers, part.device).model
    yield "texts_tokenized_per_second_1_thread", round(part.rate(lambda: len(model.tokenizer(texts))), 1)
    runner = _runner(part, TEXT, EngineSettings(precision=_precision(part)))
    documents = [Document(text=text) for text in texts]
    settings = LaneSettings(batch_size=part.sizes.batch, workers=len(os.sched_getaffinity(0)), queue_size=100_000)
    yield "texts_per_second_through_lane", round(_through_lane(runner, documents, settings, part.sizes.texts), 1)


def _prepared(runner: Runner, document: Document) -> Any:
    return runner.prepare(document, _no_uri)


def _through_lane(runner: Runner, documents: Sequence[Document], settings: LaneSettings, count: int) -> float:
    """Return documents a second: some requests of one batch each are in the lane at any time."""
    lane = Lane(settings, _no_uri, LaneMetrics(CollectorRegistry()))

    async def send(number: int) -> int:
        first = number * settings.batch_size % len(documents)
        request = [documents[(first + row) % len(documents)] for row in range(settings.batch_size)]
        answers = await lane.encode(request, find)
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        assert not failed, failed[0]
        return len(answers)

    async def find() -> Runner:
        return runner

    async def all_requests() -> float:
        await asyncio.gather(*map(send, range(2)))  # a warm-up
        started, answered = time.perf_counter(), 0
        numbers = iter(range(-(-count // settings.batch_size)))

        async def caller() -> int:
            return sum([await send(number) for number in numbers])

        answered = sum(await asyncio.gather(*(caller() for _ in range(IN_FLIGHT))))
        return answered / (time.perf_counter() - started)

    try:
        return asyncio.run(all_requests())
    finally:
        lane.close()


def _no_uri(uri: str) -> bytes:
    raise AssertionError(uri)
