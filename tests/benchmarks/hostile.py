"""Mixed requests with bad documents among them from many clients at once, while the live model changes.

Starts the real Flow with two artifacts, then sends requests of 1 to 8 texts and pictures, some of them bad, from
concurrent clients over gRPC, and promotes one artifact after the other meanwhile. Every good document must come back
with the vector of the artifact that its tag names (cosine with offline encoding >= 0.9999), every bad one with its
error. Prints a line of JSON last, and fails where something is not as it must be.

    python tests/benchmarks/hostile.py --requests 10000 --promotes 200
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from typing import Any

os.environ.setdefault("JINA_OPTOUT_TELEMETRY", "1")

import numpy as np
import psutil
import torch
from docarray import Document, DocumentArray
from jina import Client
from PIL import Image

from finetuner.artifact import Manifest, load, publish
from finetuner.backbones import find_backbone
from finetuner.catalogue import fashion
from finetuner.clip import TOWERS, load_backbone
from finetuner.images import decode
from finetuner.running_flow import RunningFlow
from finetuner.wire import ARTIFACT_TAG, ARTIFACTS_PROMOTE, ENCODE, ERROR_TAG, read_reply
from finetuner.workspace import Workspace

ARTIFACTS = ("1" * 24, "2" * 24)
COSINE = 0.9999
SETTLED = 1000  # requests until memory is taken as the start


def bomb() -> bytes:
    """Return a PNG of a few bytes that says it has 30,000 x 30,000 pixels."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def bad_documents(jpeg: bytes) -> dict[str, dict[str, Any]]:
    """Return what cannot be encoded, by name."""
    return {
        "truncated": {"blob": jpeg[: len(jpeg) // 2]},
        "neither": {},
        "bomb": {"blob": bomb()},
        "text as jpg": {"blob": b"this is no picture", "uri": "picture.jpg"},
        "svg": {"blob": b"<svg xmlns='http://www.w3.org/2000/svg'/>"},
        "10 MB text": {"text": "x" * 10_000_000},
        "NaN tensor": {"tensor": np.full((8, 8, 3), np.nan, np.float32)},
        "wrong shape": {"tensor": np.zeros((3, 8, 8), np.uint8)},
        "file uri": {"uri": "file:///etc/passwd"},
        "private uri": {"uri": "http://169.254.169.254/latest/meta-data"},
        "loopback uri": {"uri": "http://localhost:9/picture.jpg"},
    }


class Traffic:
    """Clients that send, and what came back.

    Args:
        host: of the Flow.
        workspace: with the artifacts.
        asked: the command line.
    """

    def __init__(self, host: str, workspace: Workspace, asked: argparse.Namespace) -> None:
        self._client = Client(host=host, asyncio=True)
        self._asked = asked
        pictures = list(fashion("test", items=10))
        small = io.BytesIO()
        Image.new("RGB", (1, 1), (200, 0, 0)).save(small, "PNG")
        self._good = [{"blob": picture.jpeg} for picture in pictures] + [{"blob": small.getvalue()}]
        self._good += [{"text": text} for picture in pictures for text in picture.captions.values()]
        self._bad = bad_documents(pictures[0].jpeg)
        self._expected = {name: self._offline(workspace, name) for name in ARTIFACTS}
        self.sent = 0
        self.failures: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.seconds: list[float] = []

    def _offline(self, workspace: Workspace, name: str) -> list[np.ndarray]:
        model = load(workspace.artifacts / name)
        return [
            (model.encode_texts([item["text"]]) if "text" in item else model.encode_images([decode(item["blob"])]))[0]
            for item in self._good
        ]

    async def client(self, seed: int) -> None:
        """Send one request after the other until enough are sent."""
        draw = random.Random(seed)
        while self.sent < self._asked.requests:
            self.sent += 1
            kinds = [
                draw.choice(list(self._bad)) if draw.random() < self._asked.bad else draw.randrange(len(self._good))
                for _ in range(draw.randint(1, 8))
            ]
            fields = [self._bad[kind] if isinstance(kind, str) else self._good[kind] for kind in kinds]
            documents = DocumentArray([Document(id=str(row), **given) for row, given in enumerate(fields)])
            started = time.perf_counter()
            try:
                async for answer in self._client.post(ENCODE, documents, request_size=-1, return_responses=False):
                    self._check(kinds, answer)
            except Exception as error:
                self.failures[f"request: {error!r:.200}"] += 1
            self.seconds.append(time.perf_counter() - started)

    def _check(self, kinds: list[int | str], answer: DocumentArray) -> None:
        if len(answer) != len(kinds):
            self.failures["documents lost"] += 1
        for document in answer:
            kind, tag = kinds[int(document.id)], document.tags.get(ERROR_TAG)
            if isinstance(kind, str):
                if tag is None or document.embedding is not None:
                    self.failures[f"{kind} got no error"] += 1
                else:
                    self.errors[f"{kind}: {tag['type']}"] += 1
                continue
            name = document.tags.get(ARTIFACT_TAG)
            if tag is not None or name not in ARTIFACTS:
                self.failures[f"good document: {tag} {name}"] += 1
            elif float(document.embedding @ self._expected[name][kind]) < COSINE:
                self.failures["another vector"] += 1
            else:
                self.answers[name] += 1

    async def promotes(self) -> int:
        """Promote one artifact after the other, spread over the requests; return how often."""
        done = 0
        while self.sent < self._asked.requests and done < self._asked.promotes:
            if self.sent >= done * self._asked.requests / (self._asked.promotes + 1):
                parameters = {"artifact": ARTIFACTS[(done + 1) % 2]}
                async for answer in self._client.post(ARTIFACTS_PROMOTE, parameters=parameters, return_responses=False):
                    read_reply(answer[0])
                done += 1
            await asyncio.sleep(0.005)
        return done


def publish_two(workspace: Workspace) -> None:
    """Publish clip-mini twice, with other weights each."""
    for seed, name in enumerate(ARTIFACTS):
        model = load_backbone(find_backbone("clip-mini"))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.network.parameters():
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
        publish(
            workspace, model, Manifest(name, "run", "clip-mini", model.dim, [*TOWERS], {}, {}, "2026-01-01", "0"), {}
        )
    workspace.aliases.set("live", {"artifact": ARTIFACTS[0]})


def resident_mb(pid: int) -> float:
    """Return the memory of a process and its children, MiB."""
    process = psutil.Process(pid)
    return sum(part.memory_info().rss for part in [process, *process.children(recursive=True)]) / 2**20


async def drive(flow: RunningFlow, traffic: Traffic, asked: argparse.Namespace) -> dict[str, Any]:
    """Send everything; return the figures."""
    start = 0.0

    async def watch() -> None:
        nonlocal start
        while traffic.sent < min(SETTLED, asked.requests / 2):
            await asyncio.sleep(0.05)
        start = resident_mb(flow.pid)

    began = time.perf_counter()
    promoted, *_ = await asyncio.gather(
        traffic.promotes(), watch(), *(traffic.client(seed) for seed in range(asked.clients))
    )
    end = resident_mb(flow.pid)
    return {
        "requests": len(traffic.seconds),
        "seconds": round(time.perf_counter() - began, 1),
        "promotes": promoted,
        "failures": dict(traffic.failures),
        "answered": dict(traffic.answers),
        "refused": dict(sorted(traffic.errors.items())),
        "p50_ms": round(float(np.percentile(traffic.seconds, 50)) * 1000, 1),
        "p99_ms": round(float(np.percentile(traffic.seconds, 99)) * 1000, 1),
        "resident_start_mb": round(start),
        "resident_end_mb": round(end),
        "resident_ratio": round(end / start, 3),
    }


def main() -> None:
    """Start, send, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--promotes", type=int, default=20)
    parser.add_argument("--bad", type=float, default=0.05, help="share of bad documents")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="finetuner-") as folder:
        workspace = Workspace(folder)
        publish_two(workspace)
        with RunningFlow(folder) as flow:
            result = asyncio.run(drive(flow, Traffic(flow.host, workspace, asked), asked))
    print(json.dumps(result))
    if result["failures"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
