"""CPU time a document of our encoder rooms, of a bare in-process loop and of other servers: one model, one thread.

ViT-B-32 with random weights, the same images and texts, one compute thread. A server's time is that of all its
processes, gateway included; the client is not one of them. The bare loop decodes, preprocesses and encodes with
open_clip alone, 32 documents a batch; its texts keep open_clip's 77 tokens, and once more are cut to the longest
(`bare-trimmed`). Each figure is the least of `--rounds`. Prints a line of JSON last: `image_vs_bare` and
`text_vs_bare` are our CPU time over the bare loop's at fp32, `..._bf16_vs_bare` the same at bf16; `..._vs_<peer>` is
ours with the least of `--settings` without int8 over the peer's as it comes, which is fp32; `text_behind_images` a
text's time behind 160 images over theirs. Peers are looked for in `--peers DIR`, see peers/servers.py.

    python tests/benchmarks/serve_speed.py --requests 4 --peers /tmp/peers
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("JINA_OPTOUT_TELEMETRY", "1")

import numpy as np
import psutil
from peers.servers import PEERS, Ask, by_grpc, ours
from PIL import Image

from finetuner.contract.wire import ENCODE

ARCHITECTURE = "ViT-B-32"
KINDS = ("image", "text")
SETTINGS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "onnx": {"engine": "onnx"},
    "onnx-int8": {"engine": "onnx", "precision": "int8"},
}
WORDS = ("a", "red", "blue", "striped", "dress", "shirt", "with", "long", "short", "sleeves", "and", "wide", "collar")
BEHIND = 160


def jpegs(count: int, width: int, height: int) -> list[bytes]:
    """Return JPEG files of smooth noise."""
    generator = np.random.default_rng(0)
    files = []
    for _ in range(count):
        small = generator.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def texts(count: int) -> list[str]:
    """Return captions of 4 to 16 words."""
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, generator.integers(4, 17))) for _ in range(count)]


def prepare(folder: Path) -> None:
    """Write random weights and the tokenizer's table where servers may read them."""
    import open_clip
    import torch

    torch.manual_seed(0)
    (folder / "weights").mkdir()
    torch.save(open_clip.create_model(ARCHITECTURE).state_dict(), folder / "weights" / "random.pt")
    shutil.copy(Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz"), folder / "bpe.txt.gz")


def bare(
    folder: Path, items: Sequence[Any], batch: int, rounds: int, *, bf16: bool = False, trim: bool = False
) -> tuple[float, np.ndarray]:
    """Return CPU seconds a document of the plain loop, and its vectors."""
    import open_clip
    import torch

    from finetuner.models.clip import text_features, without_padding

    torch.set_num_threads(1)
    weights = str(folder / "weights" / "random.pt")
    model, _, preprocess = open_clip.create_model_and_transforms(ARCHITECTURE, pretrained=weights)
    model.eval()
    tokenizer = open_clip.get_tokenizer(ARCHITECTURE)

    def encode(part: Sequence[Any]) -> torch.Tensor:
        if isinstance(part[0], bytes):
            opened = (Image.open(io.BytesIO(blob)).convert("RGB") for blob in part)
            return model.encode_image(torch.stack([preprocess(image) for image in opened]), normalize=True)
        if trim:
            return torch.nn.functional.normalize(
                text_features(model, without_padding(model, tokenizer(list(part)))), dim=-1
            )
        return model.encode_text(tokenizer(list(part)), normalize=True)

    best = float("inf")
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else nullcontext():
        encode(items[:batch])
        for _ in range(rounds):
            started = time.process_time()
            vectors = [encode(items[start : start + batch]).float() for start in range(0, len(items), batch)]
            best = min(best, time.process_time() - started)
    return best / len(items), np.concatenate([part.numpy() for part in vectors])


def cpu_seconds(process: psutil.Process) -> float:
    """Return what a process and its children have used."""
    return float(sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True))))


async def measured(
    ask: Ask, process: psutil.Process, items: Sequence[Any], batch: int, concurrency: int, rounds: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Return the CPU time a document and the throughput, and the vectors."""
    starts = range(0, len(items), batch)
    slots = asyncio.Semaphore(concurrency)

    async def one(start: int) -> np.ndarray:
        async with slots:
            return await ask(items[start : start + batch])

    await asyncio.gather(*(one(start) for start in starts[: max(concurrency, 2)]))
    cpu, seconds = float("inf"), float("inf")
    for _ in range(rounds):
        used, started = cpu_seconds(process), time.perf_counter()
        vectors = await asyncio.gather(*(one(start) for start in starts))
        seconds, cpu = min(seconds, time.perf_counter() - started), min(cpu, cpu_seconds(process) - used)
    figures = {
        "batch": batch,
        "concurrency": concurrency,
        "cpu_ms": round(cpu / len(items) * 1000, 2),
        "per_second": round(len(items) / seconds, 1),
    }
    return figures, np.concatenate(vectors)


async def text_behind_images(folder: Path, batch: int, images: Sequence[bytes]) -> float:
    """Return a text's time from sending to answer over that of the images sent before it, to a Flow of both rooms."""

    async def timed(request: Any) -> float:
        started = time.perf_counter()
        await request
        return time.perf_counter() - started

    flow = replace(ours({}), ask=lambda port, _: lambda items: by_grpc(ENCODE)(port, _kind(items[0]))(items))
    async with flow.running(None, folder, batch, "text,image", images[:1]) as (ask, _):
        await ask(["a"])
        behind = asyncio.create_task(timed(ask(images)))
        await asyncio.sleep(0.5)  # they are in the room
        text = await timed(ask(["a red dress"]))
        return text / await behind


def _kind(item: str | bytes) -> str:
    return "text" if isinstance(item, str) else "image"


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32, help="documents a request and a pass")
    parser.add_argument("--concurrency", type=int, default=16, help="requests in flight, of one document each")
    parser.add_argument("--width", type=int, default=500, help="of the images, pixels")
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--settings", nargs="*", default=["fp32", "bf16"], choices=[*SETTINGS])
    parser.add_argument("--peers", type=Path, help="folder of virtual environments")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # no server is left behind
    versions = {"python": platform.python_version()}
    versions |= {name: version(name) for name in ("torch", "open_clip_torch", "onnxruntime", "jina", "pillow")}
    versions |= {peer.name: peer.version(asked.peers) or "not installed" for peer in PEERS}
    results: dict[str, Any] = {**vars(asked), "peers": str(asked.peers), "cpus": os.cpu_count(), "versions": versions}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="finetuner-") as name:
        folder = Path(name)
        prepare(folder)
        count = asked.requests * asked.batch
        for kind, items in (("image", jpegs(count, asked.width, asked.height)), ("text", texts(count))):
            asyncio.run(_compare(asked, folder, kind, items, versions, rows))
        ratios = _ratios(rows)
        images = jpegs(BEHIND, asked.width, asked.height)
        ratios["text_behind_images"] = round(asyncio.run(text_behind_images(folder, asked.batch, images)), 3)
    print(json.dumps(results | {"rows": rows} | ratios))


async def _compare(
    asked: argparse.Namespace,
    folder: Path,
    kind: str,
    items: Sequence[Any],
    versions: dict[str, str],
    rows: list[dict[str, Any]],
) -> None:
    """Add a row for the bare loop, each of our settings and each peer, of requests of many documents and of one."""

    def add(name: str, figures: dict[str, Any], vectors: np.ndarray | None) -> None:
        if vectors is not None:
            figures["cosine_min"] = round(
                float(((vectors / np.linalg.norm(vectors, axis=1)[:, None]) * truth).sum(1).min()), 6
            )
        rows.append({"kind": kind, "server": name, **figures})
        print(rows[-1], file=sys.stderr, flush=True)

    seconds, truth = bare(folder, items, asked.batch, asked.rounds)
    add("bare", {"batch": asked.batch, "cpu_ms": round(seconds * 1000, 2)}, None)
    if kind == "text":
        seconds, vectors = bare(folder, items, asked.batch, asked.rounds, trim=True)
        add("bare-trimmed", {"batch": asked.batch, "cpu_ms": round(seconds * 1000, 2)}, vectors)
    if "bf16" in asked.settings:
        seconds, vectors = bare(folder, items, asked.batch, asked.rounds, bf16=True)
        add("bare-bf16", {"batch": asked.batch, "cpu_ms": round(seconds * 1000, 2)}, vectors)
    servers = {f"ours-{name}": ours(SETTINGS[name]) for name in asked.settings}
    servers |= {peer.name: peer for peer in PEERS if versions[peer.name] != "not installed"}
    for name, server in servers.items():
        try:
            async with server.running(asked.peers, folder, asked.batch, kind, items[:1]) as (ask, process):
                for batch, concurrency in ((asked.batch, 1), (1, asked.concurrency)):
                    if batch == 1 or server.takes_many:
                        figures, vectors = await measured(ask, process, items, batch, concurrency, asked.rounds)
                        add(name, figures, None if name == "infinity-emb" else vectors)  # it has weights of its own
        except TimeoutError:
            print(f"{name} has not answered {kind}s", file=sys.stderr, flush=True)
            if name not in versions:
                raise


def _ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return our CPU time over the others', requests of many documents; of one where a peer takes no other."""
    cpu = {(row["kind"], row["server"], row["batch"]): row["cpu_ms"] for row in rows}
    many = max(row["batch"] for row in rows)
    found = {}
    for kind in KINDS:
        for mine, plain, name in (
            ("ours-fp32", "bare", f"{kind}_vs_bare"),
            ("ours-fp32", "bare-trimmed", f"{kind}_vs_bare_trimmed"),
            ("ours-bf16", "bare-bf16", f"{kind}_bf16_vs_bare"),
        ):
            if (kind, mine, many) in cpu and (kind, plain, many) in cpu:
                found[name] = round(cpu[kind, mine, many] / cpu[kind, plain, many], 3)
        for peer in PEERS:
            for batch, suffix in ((many, ""), (1, "_single")):
                best = min(cpu.get((kind, f"ours-{name}", batch), np.inf) for name in SETTINGS if "int8" not in name)
                if (kind, peer.name, batch) in cpu:
                    found[f"{kind}_vs_{peer.name}{suffix}"] = round(best / cpu[kind, peer.name, batch], 3)
    return found


if __name__ == "__main__":
    main()
