"""A long load of many callers, and the first requests after a start against the later ones.

Starts the real Flow, waits until it says that it is ready, and asks at once: each caller sends one text after the other
over one gRPC connection, every eighth an image, by bare gRPC, since a slow client looks like a slow server. Prints a
line of JSON last. Fails with an error, a GOAWAY between gateway and rooms, or where the slowest of the first 100
answers took more than 1.5 times the later p99.

    python tests/benchmarks/long_load.py --minutes 10 --callers 32
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JINA_OPTOUT_TELEMETRY", "1")

import grpc
import numpy as np
from docarray import Document, DocumentArray
from jina.proto import jina_pb2

from finetuner.contract.wire import ENCODE, error_of
from finetuner.executors.gateway.flow.health import image
from finetuner.flow.running_flow import RunningFlow

FIRST, MOST = 100, 1.5
IMAGES = 8  # texts to an image
METHOD = "/jina.JinaSingleDataRequestRPC/process_single_data"
GOAWAY = re.compile(r"GOAWAY|ENHANCE_YOUR_CALM|too_many_pings", re.IGNORECASE)


def message(document: Document) -> bytes:
    """Return a request to encode one document."""
    request = jina_pb2.DataRequestProto()
    request.header.exec_endpoint = ENCODE
    request.data.docs.CopyFrom(DocumentArray([document]).to_protobuf())
    return bytes(request.SerializeToString())


async def load(address: str, callers: int, seconds: float) -> tuple[list[float], list[str]]:
    """Return the seconds of each answer, in the order of their requests, and the errors."""
    asked = [message(Document(text="a red dress")), message(Document(blob=image(), mime_type="image/png"))]
    found: list[tuple[float, float]] = []
    errors: list[str] = []
    until = time.perf_counter() + seconds

    async def ask(channel: grpc.aio.Channel, number: int) -> None:
        call = channel.unary_unary(METHOD, response_deserializer=jina_pb2.DataRequestProto.FromString)
        while (started := time.perf_counter()) < until:
            number += 1
            try:
                answer = await call(asked[number % IMAGES == 0], timeout=60)
                (document,) = DocumentArray.from_protobuf(answer.data.docs)
                if document.embedding is None:
                    errors.append(str(error_of(document)))
            except grpc.aio.AioRpcError as error:
                errors.append(f"{error.code().name}: {error.details()}")
            found.append((started, time.perf_counter() - started))

    async with grpc.aio.insecure_channel(address) as channel:
        await asyncio.gather(*(ask(channel, number) for number in range(callers)))
    return [took for _, took in sorted(found)], errors


def main() -> int:
    """Ask, print what was seen, and return 1 where a bound is passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--callers", type=int, default=32)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, RunningFlow(Path(folder) / "workspace") as flow:
        took, errors = asyncio.run(load(flow.host.removeprefix("grpc://"), asked.callers, 60 * asked.minutes))
        goaways = len(GOAWAY.findall(flow.log.read_text(errors="replace")))
    later = float(np.percentile(took[FIRST:], 99))
    found = {
        "callers": asked.callers,
        "minutes": asked.minutes,
        "requests": len(took),
        "per_second": round(len(took) / 60 / asked.minutes, 1),
        "errors": len(errors),
        "first_errors": errors[:3],
        "goaways": goaways,
        "first_100_slowest_ms": round(1000 * max(took[:FIRST]), 1),
        "later_p50_ms": round(1000 * float(np.median(took[FIRST:])), 1),
        "later_p99_ms": round(1000 * later, 1),
        "first_to_later": round(max(took[:FIRST]) / later, 2),
    }
    print(json.dumps(found))
    return 1 if errors or goaways or found["first_to_later"] > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
