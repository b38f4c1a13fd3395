"""Searches with one query a request: by one caller beside the engine alone, and by many callers at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from docarray import Document
from numpy.typing import NDArray

from finetuner.contract.wire import ARTIFACT_TAG, SEARCH

from .lean_clients import Send, by_grpc

CALLERS = 16


async def single_queries(
    host: str, engine: Callable[[NDArray[np.float32]], Any], queries: NDArray[np.float32], artifact: str
) -> dict[str, float]:
    """Return the figures of requests with one query, see search_speed.py.

    Args:
        host: gRPC address of the Flow.
        engine: searches with (queries, dim) in this process.
        queries: (queries, dim), each asked twice.
        artifact: name of the index.
    """
    documents = [[Document(embedding=vector, tags={ARTIFACT_TAG: artifact})] for vector in queries]
    port = urlsplit(host).port
    assert port is not None
    by_flow: list[float] = []
    by_engine: list[float] = []
    beside: list[float] = []
    async with AsyncExitStack() as stack:
        sends = [await stack.enter_async_context(by_grpc(port, SEARCH, documents)) for _ in range(CALLERS)]
        for number, vector in enumerate(queries):
            by_flow.append(await _seconds(sends[0], number))
            started = time.perf_counter()
            engine(vector[None])
            by_engine.append(time.perf_counter() - started)
        numbers = iter(range(len(queries)))

        async def call(send: Send) -> None:
            for number in numbers:  # the next one that no caller has taken
                beside.append(await _seconds(send, number))

        started = time.perf_counter()
        await asyncio.gather(*map(call, sends))
        lasted = time.perf_counter() - started
    p50, p95 = 1000 * np.percentile(by_flow[1:], (50, 95))
    return {
        "single_p50_ms": round(float(p50), 2),
        "single_p95_ms": round(float(p95), 2),
        "single_vs_raw_engine": round(float(p50 / 1000 / np.median(by_engine[1:])), 2),
        "callers_16_per_s": round(len(beside) / lasted, 1),
        "callers_16_p50_ms": round(float(1000 * np.median(beside)), 2),
        "callers_16_p95_ms": round(float(1000 * np.percentile(beside, 95)), 2),
    }


async def _seconds(send: Send, number: int) -> float:
    started = time.perf_counter()
    await send(number)
    return time.perf_counter() - started
