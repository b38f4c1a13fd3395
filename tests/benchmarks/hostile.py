"""Mixed requests with bad documents among them from many clients at once, while the live model changes.

Starts the real Flow with two artifacts, then sends requests of 1 to 8 texts and images, some of them bad, from
concurrent clients over gRPC, and promotes one artifact after the other meanwhile. Every good document must come back
with the vector of the artifact that its tag names (cosine with offline encoding >= 0.9999), every bad one with its
error, of the class that says why. Then the same with a Flow that may fetch from private addresses, and a web server
that misbehaves. Prints a line of JSON last, and fails where something is not as it must be.

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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("JINA_OPTOUT_TELEMETRY", "1")

import numpy as np
import psutil
import torch
import yaml
from docarray import Document, DocumentArray
from jina import Client
from PIL import Image

from finetuner.artifacts.load import load_artifact
from finetuner.artifacts.manifest import Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.catalogue import fashion
from finetuner.contract.wire import ARTIFACT_TAG, ARTIFACTS_PROMOTE, ENCODE, ERROR_TAG, read_reply
from finetuner.documents.images import decode
from finetuner.flow.running_flow import RunningFlow
from finetuner.flow.settings import flow_file
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TOWERS
from finetuner.models.clip_files import load_backbone
from finetuner.workspace.folder import Workspace

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


# Name, its fields, the class of its error.
Bad = dict[str, tuple[dict[str, Any], str]]


def bad_documents(jpeg: bytes) -> Bad:
    """Return what cannot be encoded."""
    return {
        "neither": ({}, "EmptyDocument"),
        "empty blob": ({"blob": b""}, "EmptyDocument"),
        "truncated": ({"blob": jpeg[: len(jpeg) // 2]}, "UndecodableImage"),
        "text as jpg": ({"blob": b"this is no image", "uri": "image.jpg"}, "UndecodableImage"),
        "svg": ({"blob": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}, "UndecodableImage"),
        "bomb": ({"blob": bomb()}, "ImageTooLarge"),
        "10 MB text": ({"text": "x" * 10_000_000}, "TextTooLong"),
        "NaN tensor": ({"tensor": np.full((8, 8, 3), np.nan, np.float32)}, "InvalidTensor"),
        "wrong shape": ({"tensor": np.zeros((3, 8, 8), np.uint8)}, "InvalidTensor"),
        "wrong dtype": ({"tensor": np.zeros((8, 8, 3), np.int64)}, "InvalidTensor"),
        "file uri": ({"uri": "file:///etc/passwd"}, "ForbiddenUri"),
        "private uri": ({"uri": "http://169.254.169.254/latest/meta-data"}, "ForbiddenUri"),
        "loopback uri": ({"uri": "http://localhost:9/image.jpg"}, "ForbiddenUri"),
    }


def bad_uris(server: str) -> Bad:
    """Return what a web server that misbehaves has to offer to a Flow that fetches from it."""
    return {
        "missing": ({"uri": f"{server}/missing"}, "UnreachableUri"),
        "redirect to a file": ({"uri": f"{server}/to-file"}, "ForbiddenUri"),
        "redirects for ever": ({"uri": f"{server}/circle"}, "UnreachableUri"),
        "never answers": ({"uri": f"{server}/never"}, "UnreachableUri"),
        "sends without end": ({"uri": f"{server}/endless"}, "ImageTooLarge"),
        "drips without end": ({"uri": f"{server}/drip"}, "UnreachableUri"),
    }


@asynccontextmanager
async def bad_server() -> AsyncIterator[str]:
    """Serve on loopback what `bad_uris` names."""
    heads = {
        "/missing": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "/to-file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
        "/circle": b"HTTP/1.1 302 Found\r\nLocation: /circle\r\nContent-Length: 0\r\n\r\n",
        "/endless": b"HTTP/1.1 200 OK\r\n\r\n",
        "/drip": b"HTTP/1.1 200 OK\r\n\r\n",
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).split()[1].decode()
        try:
            writer.write(heads.get(path, b""))
            while path in ("/endless", "/drip"):
                writer.write(bytes(2**20 if path == "/endless" else 1))
                await writer.drain()
                await asyncio.sleep(0 if path == "/endless" else 0.1)
            if path == "/never":
                await reader.read()  # until the other side hangs up
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Traffic:
    """Clients that send, and what came back.

    Args:
        host: of the Flow.
        workspace: with the artifacts.
        asked: the command line.
        bad: what is mixed in; by default `bad_documents`.
    """

    def __init__(self, host: str, workspace: Workspace, asked: argparse.Namespace, bad: Bad | None = None) -> None:
        self._client = Client(host=host, asyncio=True)
        self._asked = asked
        images = list(fashion("test", items=10))
        small = io.BytesIO()
        Image.new("RGB", (1, 1), (200, 0, 0)).save(small, "PNG")
        self._good = [{"blob": image.jpeg} for image in images] + [{"blob": small.getvalue()}]
        self._good += [{"text": text} for image in images for text in image.captions.values()]
        self._bad = bad or bad_documents(images[0].jpeg)
        self._expected = {name: self._offline(workspace, name) for name in ARTIFACTS}
        self.sent = 0
        self.failures: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.seconds: list[float] = []

    def _offline(self, workspace: Workspace, name: str) -> list[np.ndarray]:
        model = load_artifact(workspace.artifacts / name)
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
            fields = [self._bad[kind][0] if isinstance(kind, str) else self._good[kind] for kind in kinds]
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
                elif tag["type"] != self._bad[kind][1]:
                    self.failures[f"{kind} got {tag}"] += 1
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
        publish_artifact(
            workspace, model, Manifest(name, "run", "clip-mini", model.dim, [*TOWERS], {}, {}, "2026-01-01", "0"), {}
        )
    workspace.aliases.set("live", {"artifact": ARTIFACTS[0]})


def rooms(flow: RunningFlow) -> dict[str, psutil.Process]:
    """Return each room's process, found by the port of its metrics."""
    found = {}
    for process in psutil.Process(flow.pid).children(recursive=True):
        ports = {each.laddr.port for each in process.net_connections() if each.status == psutil.CONN_LISTEN}
        found |= {name: process for name, url in flow.metrics.items() if int(url.split(":")[2].split("/")[0]) in ports}
    return found


class Memory:
    """How much of it the Flow's processes hold, as the requests go by.

    Args:
        flow: up.
    """

    def __init__(self, flow: RunningFlow) -> None:
        self._flow = flow
        self._rooms = rooms(flow)
        self.series: list[dict[str, int]] = []

    def sample(self, sent: int) -> int:
        """Note what is resident after `sent` requests, MiB; return the sum over all processes, the launcher's too."""
        launcher = psutil.Process(self._flow.pid)
        every = {process.pid: process.memory_info().rss for process in [launcher, *launcher.children(recursive=True)]}
        each = {name: every[process.pid] // 2**20 for name, process in self._rooms.items()}
        self.series.append({"requests": sent, **each, "all": sum(every.values()) // 2**20})
        return self.series[-1]["all"]

    async def watch(self, traffic: Traffic, requests: int) -> int:
        """Sample at `SETTLED` requests and at each tenth of them until all are sent; return the first sum."""
        marks = sorted({min(SETTLED, requests // 2), *range(requests // 10, requests, max(requests // 10, 1))})
        start = 0
        for mark in marks:
            while traffic.sent < mark:
                await asyncio.sleep(0.05)
            held = self.sample(traffic.sent)
            start = held if mark == min(SETTLED, requests // 2) else start
        return start


async def drive(flow: RunningFlow, traffic: Traffic, asked: argparse.Namespace) -> dict[str, Any]:
    """Send everything; return the figures."""
    memory = Memory(flow)
    began = time.perf_counter()
    promoted, start, *_ = await asyncio.gather(
        traffic.promotes(),
        memory.watch(traffic, asked.requests),
        *(traffic.client(seed) for seed in range(asked.clients)),
    )
    seconds = time.perf_counter() - began
    end = memory.sample(traffic.sent)
    return {
        "requests": len(traffic.seconds),
        "seconds": round(seconds, 1),
        "promotes": promoted,
        "failures": dict(traffic.failures),
        "answered": dict(traffic.answers),
        "refused": dict(sorted(traffic.errors.items())),
        "p50_ms": round(float(np.percentile(traffic.seconds, 50)) * 1000, 1),
        "p99_ms": round(float(np.percentile(traffic.seconds, 99)) * 1000, 1),
        "resident_mb": memory.series,
        "resident_start_mb": start,
        "resident_end_mb": end,
        "resident_ratio": round(end / start, 3),
    }


def private_flow(folder: Path) -> Path:
    """Write the YAML of a Flow that may fetch from private addresses, and has no rooms but the encoders."""
    content = yaml.safe_load(flow_file().read_text())
    content["executors"] = [room for room in content["executors"] if room["name"].endswith("_encoder")]
    for room in [content["gateway"], *content["executors"]]:
        room["uses"] = str((flow_file().parent / room["uses"]).resolve())
    for room in content["executors"]:
        room["uses_with"]["private_uris"] = True
    path = folder / "finetuner.yml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


async def drive_uris(flow: RunningFlow, workspace: Workspace, asked: argparse.Namespace) -> dict[str, Any]:
    """Send documents whose URIs lead to a web server that misbehaves."""
    few = argparse.Namespace(**{**vars(asked), "requests": asked.uri_requests, "promotes": 0})
    async with bad_server() as server:
        found = await drive(flow, Traffic(flow.host, workspace, few, bad_uris(server)), few)
    return {name: found[name] for name in ("requests", "seconds", "failures", "answered", "refused")}


def main() -> None:
    """Start, send, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--promotes", type=int, default=20)
    parser.add_argument("--bad", type=float, default=0.05, help="share of bad documents")
    parser.add_argument("--uri-requests", type=int, default=300, help="of those that a bad web server answers; 0: none")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="finetuner-") as folder:
        workspace = Workspace(folder)
        publish_two(workspace)
        with RunningFlow(folder) as flow:
            result = asyncio.run(drive(flow, Traffic(flow.host, workspace, asked), asked))
        if asked.uri_requests:
            with RunningFlow(folder, flow=private_flow(Path(folder))) as flow:
                result["uris"] = asyncio.run(drive_uris(flow, workspace, asked))
    print(json.dumps(result))
    if result["failures"] or result.get("uris", result)["failures"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
