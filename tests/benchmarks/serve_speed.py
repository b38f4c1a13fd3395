"""CPU time a document over gRPC, next to a bare in-process loop with the same weights, pictures and texts.

ViT-B-32 with random weights, one compute thread, one client that waits for each answer. The bare loop decodes,
preprocesses and encodes with open_clip alone, as many documents a batch; its texts keep open_clip's 77 tokens unless
`--trim`. The room's time is that of its process; client and gateway are not counted, as their work is not the model's.
Prints a line of JSON last: `image_vs_bare` and `text_vs_bare` are the room's CPU time divided by the bare loop's.

    python tests/benchmarks/serve_speed.py --requests 4
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("JINA_OPTOUT_TELEMETRY", "1")

import numpy as np
import psutil
from docarray import Document, DocumentArray
from PIL import Image

from finetuner.wire import ENCODE, error_of

ROOT = Path(__file__).parents[2]
WORDS = [
    "a",
    "red",
    "blue",
    "striped",
    "dress",
    "shirt",
    "with",
    "long",
    "short",
    "sleeves",
    "and",
    "wide",
    "collar",
    "for",
    "summer",
    "evenings",
    "in",
    "cotton",
]


def pictures(count: int, size: int) -> list[bytes]:
    """Return JPEG files of smooth noise, (size, size)."""
    generator = np.random.default_rng(0)
    files = []
    for _ in range(count):
        small = generator.integers(0, 255, (size // 8, size // 8, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def texts(count: int) -> list[str]:
    """Return captions of 4 to 16 words."""
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, generator.integers(4, 17))) for _ in range(count)]


def checkpoint(folder: Path, architecture: str) -> str:
    """Write random weights where a room may read them, and return the backbone's name."""
    import open_clip
    import torch

    torch.manual_seed(0)
    (folder / "weights").mkdir()
    torch.save(open_clip.create_model(architecture).state_dict(), folder / "weights" / "random.pt")
    return f"{architecture}::random.pt"


def bare(folder: Path, architecture: str, items: list[Any], batch: int, *, trim: bool) -> tuple[float, np.ndarray]:
    """Return CPU seconds a document of the plain loop, and its vectors."""
    import open_clip
    import torch

    torch.set_num_threads(1)
    model, _, preprocess = open_clip.create_model_and_transforms(
        architecture, pretrained=str(folder / "weights" / "random.pt")
    )
    model.eval()
    tokenizer = open_clip.get_tokenizer(architecture)
    from finetuner.clip import text_features

    def encode(part: list[Any]) -> torch.Tensor:
        if isinstance(part[0], bytes):
            opened = (Image.open(io.BytesIO(blob)).convert("RGB") for blob in part)
            return model.encode_image(torch.stack([preprocess(image) for image in opened]), normalize=True)
        tokens = tokenizer(part)
        if trim:
            return torch.nn.functional.normalize(text_features(model, tokens), dim=-1)
        return model.encode_text(tokens, normalize=True)

    with torch.inference_mode():
        encode(items[:batch])
        started = time.process_time()
        vectors = [encode(items[start : start + batch]).numpy() for start in range(0, len(items), batch)]
    return (time.process_time() - started) / len(items), np.concatenate(vectors)


@contextmanager
def room(kind: str, folder: Path, backbone: str, batch: int) -> Iterator[tuple[Callable[..., Any], psutil.Process]]:
    """Start a Flow of one encoder room; yield what sends documents to it, and the room's process."""
    from jina import Flow

    flow = Flow().add(
        uses=str(ROOT / "executors" / kind / "config.yml"),
        uses_with={"workspace_url": str(folder), "backbone": backbone, "threads": 1, "batch_size": batch},
    )
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with flow:
        new = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
        process = max(new, key=lambda child: child.memory_info().rss)  # the one that holds the model

        def send(documents: DocumentArray) -> DocumentArray:
            return flow.post(ENCODE, documents, request_size=batch)

        yield send, process


def served(
    kind: str, folder: Path, backbone: str, documents: DocumentArray, batch: int
) -> tuple[float, float, np.ndarray]:
    """Return CPU seconds and seconds a document of the room, and its vectors."""
    with room(kind, folder, backbone, batch) as (send, process):
        send(documents[:batch])
        used, started = sum(process.cpu_times()[:2]), time.perf_counter()
        found = send(documents)
        seconds, used = time.perf_counter() - started, sum(process.cpu_times()[:2]) - used
    assert not any(error_of(document) for document in found)
    return used / len(documents), seconds / len(documents), found[documents[:, "id"]].embeddings


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32, help="documents a request and a pass")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures, pixels")
    parser.add_argument("--trim", action="store_true", help="cut the bare loop's texts to the longest, too")
    asked = parser.parse_args()
    count = asked.requests * asked.batch
    results: dict[str, Any] = {**vars(asked), "machine": platform.machine(), "cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="finetuner-") as name:
        folder = Path(name)
        backbone = checkpoint(folder, asked.architecture)
        for what, kind, items, field in (
            ("image", "vision_encoder", pictures(count, asked.size), "blob"),
            ("text", "text_encoder", texts(count), "text"),
        ):
            documents = DocumentArray([Document(**{field: item}) for item in items])
            used, seconds, vectors = served(kind, folder, backbone, documents, asked.batch)
            plain, expected = bare(folder, asked.architecture, items, asked.batch, trim=asked.trim)
            results |= {
                f"{what}_cpu_ms": round(used * 1000, 2),
                f"{what}_bare_cpu_ms": round(plain * 1000, 2),
                f"{what}_per_second": round(1 / seconds, 1),
                f"{what}_vs_bare": round(used / plain, 3),
                f"{what}_cosine_min": round(float((vectors * expected).sum(axis=1).min()), 6),
            }
            print(what, {key: value for key, value in results.items() if key.startswith(what)}, file=sys.stderr)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
