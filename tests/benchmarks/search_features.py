"""Price and effect of the searches beyond the nearest vectors, in an indexer in this process. JSON last.

Price: `p50_ratio` is the median time of a search over that of a plain one, in turns, at --documents vectors of 512.
Effect, on the catalogue's test split with clip-mini:
`marked`: R@10 of "colour garment" queries, before and after the first three matches are marked as fitting or not, both
without the marked ones. `codes`: success@5 of queries with a product's code, and R@5 of captions without and with
hybrid; the words of a document are the caption of the item's other image. `copies`: distinct products among ten,
with four copies of each, and R@10 of the products.

    python tests/benchmarks/search_features.py --documents 20000
"""

from __future__ import annotations

import argparse
import io
import json
import re
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from docarray import Document, DocumentArray
from numpy.typing import NDArray
from PIL import Image

import finetuner
from finetuner.catalogue import fashion
from finetuner.contract.wire import ARTIFACT_TAG, error_of
from finetuner.executors.indexer.executor import Indexer

DIM, ROUNDS = 512, 60
COLOURS = ("red", "blue", "green", "white", "black", "beige", "brown", "yellow", "pink", "grey", "orange", "navy")
GARMENTS = ("shirt", "skirt", "hoodie", "dress", "cardigan", "sweater", "pullover", "top", "trousers", "jacket", "coat")
WORDS = ("linen", "wool", "silk", "cotton", "denim", "striped", "plain", "dotted", "long", "short", "soft", "warm")
FEATURES: dict[str, dict[str, Any]] = {
    "examples": {"positives": ["n1", "n2", "n3"]},
    "hybrid": {"hybrid": {"fields": ["title", "sku"]}},
    "diversity": {"diversity": 0.4},
    "hide_duplicates": {"hide_duplicates": 0.95},
    "group_by": {"group_by": "product"},
    "facets": {"facets": {"colour": 10}},
    "order_by": {"order_by": "price"},
    "cursor": {"cursor": "*"},
}

Vectors = NDArray[np.float32]


def put(room: Indexer, documents: Sequence[Document]) -> None:
    for start in range(0, len(documents), 500):
        for answer in room.index(docs=DocumentArray(documents[start : start + 500])):
            if (error := error_of(answer)) is not None:
                raise error


def search(room: Indexer, vector: Vectors | None, text: str = "", **asked: Any) -> list[str]:
    query = Document(text=text or None, embedding=vector, tags={ARTIFACT_TAG: "m"})
    answer = room.search(docs=DocumentArray([query]), parameters={"limit": 10, "return_content": False, **asked})
    if (error := error_of(answer[0])) is not None:
        raise error
    return [match.id for match in answer.found[0]]


def prices(count: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    room = Indexer(workspace_url=tempfile.mkdtemp())
    vectors = rng.normal(size=(count, DIM)).astype(np.float32)
    put(
        room,
        [
            Document(
                id=f"n{i}", embedding=vectors[i],
                tags={
                    ARTIFACT_TAG: "m", "product": f"p{i // 4}", "price": float(i % 977), "sku": f"AB-{i}/X",
                    "colour": COLOURS[i % len(COLOURS)], "title": " ".join(rng.choice(WORDS, 6)),
                },
            )
            for i in range(count)
        ],
    )  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in ("plain", *FEATURES)}
    started = time.perf_counter()
    search(room, vectors[0], "wool", **FEATURES["hybrid"])
    first = time.perf_counter() - started
    for number in range(ROUNDS):
        query = rng.normal(size=DIM).astype(np.float32)
        for name in times:
            started = time.perf_counter()
            search(room, query, f"{WORDS[number % 12]} {WORDS[(number + 5) % 12]}", **FEATURES.get(name, {}))
            times[name].append(time.perf_counter() - started)
    room.close()
    p50 = {name: float(np.median(taken)) * 1000 for name, taken in times.items()}
    ratios = {name: round(value / p50["plain"], 2) for name, value in p50.items()}
    return {"p50_ms": {k: round(v, 2) for k, v in p50.items()}, "p50_ratio": ratios, "first_hybrid_s": round(first, 2)}


def effects() -> dict[str, Any]:
    images = list(fashion("test"))
    text, vision = (finetuner.get_model("clip-mini", select_model=name) for name in ("clip-text", "clip-vision"))
    pictures = np.asarray(
        finetuner.encode(vision, DocumentArray(Document(blob=each.jpeg) for each in images)).embeddings, np.float32
    )
    captions = np.asarray(finetuner.encode(text, [each.captions["en"] for each in images]), np.float32)
    about = {
        item: set(re.findall(r"\w+", " ".join(e.captions["en"] for e in images if e.item == item).lower()))
        for item in {e.item for e in images}
    }
    room = Indexer(workspace_url=tempfile.mkdtemp())
    tags = [
        {ARTIFACT_TAG: "m", "sku": f"QX-{100 + i}/B", "words": images[i ^ 1].captions["en"]} for i in range(len(images))
    ]
    put(room, [Document(id=f"{i}", embedding=pictures[i], tags=tags[i]) for i in range(len(images))])

    before, after = [], []
    pairs = [(f"{c} {g}", {c, g}) for c, g in product(COLOURS, GARMENTS)]
    wanted = {q: {f"{i}" for i, e in enumerate(images) if need <= about[e.item]} for q, need in pairs}
    asked = [q for q, fits in wanted.items() if len(fits) >= 4]
    for query, vector in zip(asked, np.asarray(finetuner.encode(text, asked), np.float32), strict=True):
        order = search(room, vector, limit=13)
        marked, rest = order[:3], wanted[query] - set(order[:3])
        likes = [each for each in marked if each in wanted[query]]
        refused = [each for each in marked if each not in wanted[query]]
        least = min(10, len(rest)) or 1
        before.append(len(rest & set(order[3:])) / least)
        learned = search(room, vector, positives=likes, negatives=refused)
        after.append(len(rest & set(learned)) / least)

    blend = {"hybrid": {"fields": ["sku", "words"]}}
    code = [
        f"{i}" in search(room, captions[i ^ 2], f"{tags[i]['sku'].lower()} please", **blend)[:5] for i in range(400)
    ]
    plain = np.mean([f"{i}" in search(room, captions[i])[:5] for i in range(400)])
    mixed = np.mean([f"{i}" in search(room, captions[i], images[i].captions["en"], **blend)[:5] for i in range(400)])
    room.close()
    return {
        "marked": {"queries": len(asked), "before": round(np.mean(before), 4), "after": round(np.mean(after), 4)},
        "codes": {"success_at_5": round(float(np.mean(code)), 4), "recall_at_5": [round(plain, 4), round(mixed, 4)]},
        "copies": copies(vision, images[::2], captions[::2]),
    }


def copies(vision: Any, images: Sequence[Any], captions: Vectors) -> dict[str, Any]:
    """Index four slightly different crops of each image, and search with the captions."""
    room = Indexer(workspace_url=tempfile.mkdtemp())
    made = DocumentArray()
    for number, (one, cut) in enumerate(product(images, range(4))):
        crop = Image.open(io.BytesIO(one.jpeg)).crop((cut, cut, 120 - cut, 120 - cut))
        crop.save(file := io.BytesIO(), "JPEG", quality=92 - 4 * cut)
        made.append(Document(id=f"{number}", blob=file.getvalue(), tags={"product": f"p{number // 4}"}))
    finetuner.encode(vision, made)
    put(room, [Document(d, copy=True, blob=b"", tags={**d.tags, ARTIFACT_TAG: "m"}) for d in made])
    found: dict[str, Any] = {}
    for name, asked in (("plain", {}), ("hidden", {"hide_duplicates": 0.95}), ("grouped", {"group_by": "product"})):
        distinct, right = [], []
        for number, vector in enumerate(captions):
            products = [int(each) // 4 for each in search(room, vector, **asked)]
            distinct.append(len(set(products)))
            right.append(number in products)
        found[name] = {"distinct": round(float(np.mean(distinct)), 2), "recall_at_10": round(float(np.mean(right)), 4)}
    room.close()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=20_000)
    given = parser.parse_args()
    print(json.dumps({"documents": given.documents, **effects(), **prices(given.documents)}))
