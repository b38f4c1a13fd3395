"""What the searches beyond the nearest vectors cost, do and find, through a real Flow. JSON last.

`effects`, on the catalogue's test split with clip-mini:
  `marked`: R@10 of "colour garment" queries before and after the first three matches are marked as fitting or not,
  both without the marked ones. `codes`: success@5 of queries with a product's code by hybrid and without, and R@5 of
  captions without and with hybrid; the words of a document are the caption of its item's other image. `copies`:
  distinct products among ten, with four copies of each, and R@10 of the products.
`checked`: searches of every feature over --documents vectors of 512, with and without a filter, each compared with a
  naive loop over all of them (features/brute_force.py): the same ids in the same order, or the script fails.
`p50_ms`, `p50_ratio`: median time of a search over these vectors, by the graph, from the client and back, in turns;
  and over that of a plain one. `first_hybrid_s` is the first search of two fields, which reads all documents.

    python tests/benchmarks/search_features.py --documents 20000
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from typing import Any

os.environ.setdefault("JINA_OPTOUT_TELEMETRY", "1")

import numpy as np
from docarray import Document, DocumentArray
from features import brute_force
from features.brute_force import Library
from numpy.typing import NDArray
from PIL import Image

import finetuner
from finetuner.catalogue import fashion
from finetuner.contract.wire import ARTIFACT_TAG, SEARCH_TAG
from finetuner.executors.indexer.engines.engine import EXACT_BELOW
from finetuner.flow.running_flow import RunningFlow

DIM, ROUNDS, CHECKS = 512, 60, 5
COPY_NOISE = 0.17  # four vectors of a product have cosines of 1 / (1 + COPY_NOISE ** 2), 0.97
COLOURS = ("red", "blue", "green", "white", "black", "beige", "brown", "yellow", "pink", "grey", "orange", "navy")
GARMENTS = ("shirt", "skirt", "hoodie", "dress", "cardigan", "sweater", "pullover", "top", "trousers", "jacket", "coat")
WORDS = ("linen", "wool", "silk", "cotton", "denim", "striped", "plain", "dotted", "long", "short", "soft", "warm")
EXAMPLES: dict[str, Any] = {"positives": ["n1", "n2", "n3"], "negatives": ["n40"]}
HYBRID: dict[str, Any] = {"fields": ["title", "sku"], "weight": 0.3}
FEATURES: dict[str, dict[str, Any]] = {
    "examples": EXAMPLES,
    "hybrid": {"hybrid": HYBRID},
    "diversity": {"diversity": 0.4},
    "hide_duplicates": {"hide_duplicates": 0.95},
    "group_by": {"group_by": "product"},
    "facets": {"facets": {"colour": 10}},
    "order_by": {"order_by": "price"},
    "cursor": {"cursor": "*"},
}
DEPTH, FILTER = 200, {"price": {"$lt": 600}, "colour": {"$in": ["red", "blue"]}}

Vectors = NDArray[np.float32]


def main() -> None:
    """Measure, check and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=int, default=20_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, RunningFlow(folder) as flow:
        finetuner.login(host=flow.host)
        found = {"documents": given.documents, "effects": effects()}
        print(found, file=sys.stderr, flush=True)
        library = filled(given.documents)
        print(json.dumps({**found, "checked": checked(library), **prices(library)}))


def search(query: Any, artifact: str, **asked: Any) -> Document:
    return finetuner.search(query, **{"limit": 10, "artifact": artifact, "return_content": False, **asked})[0]


def ids(found: Document) -> list[str]:
    return [match.id for match in found.matches]


def effects() -> dict[str, Any]:
    """Return what marks, hybrid, and hidden and grouped copies change."""
    images = list(fashion("test"))
    about = {
        item: set(re.findall(r"\w+", " ".join(each.captions["en"] for each in images if each.item == item).lower()))
        for item in {each.item for each in images}
    }
    skus = [f"QX-{100 + i}/B" for i in range(len(images))]
    finetuner.index(
        DocumentArray(
            Document(id=f"{i}", blob=image.jpeg, tags={"sku": skus[i], "words": images[i ^ 1].captions["en"]})
            for i, image in enumerate(images)
        ),
        artifact="clip-mini",
    )
    found = {"marked": marked(images, about), "codes": codes([image.captions["en"] for image in images], skus)}
    finetuner.delete_documents(f"{i}" for i in range(len(images)))
    return {**found, "copies": copies(images[::2])}


def marked(images: Sequence[Any], about: dict[str, set[str]]) -> dict[str, Any]:
    before: list[float] = []
    after: list[float] = []
    for colour, garment in product(COLOURS, GARMENTS):
        wanted = {f"{i}" for i, image in enumerate(images) if {colour, garment} <= about[image.item]}
        if len(wanted) < 4:
            continue
        query = f"{colour} {garment}"
        order = ids(search(query, "clip-mini", limit=13))
        shown, rest = order[:3], wanted - set(order[:3])
        likes, dislikes = [each for each in shown if each in wanted], [each for each in shown if each not in wanted]
        least = min(10, len(rest)) or 1
        before.append(len(rest & set(order[3:])) / least)
        learned = ids(search(query, "clip-mini", positives=likes, negatives=dislikes))
        after.append(len(rest & set(learned)) / least)
    return {"queries": len(before), "before": _mean(before), "after": _mean(after)}


def codes(captions: Sequence[str], skus: Sequence[str]) -> dict[str, Any]:
    blend = {"hybrid": {"fields": ["sku", "words"]}}
    found: dict[str, list[bool]] = {name: [] for name in ("code", "code_without", "plain", "mixed")}
    for i, caption in enumerate(captions):
        query = f"{skus[i].lower()} please"
        found["code"].append(f"{i}" in ids(search(query, "clip-mini", **blend))[:5])
        found["code_without"].append(f"{i}" in ids(search(query, "clip-mini"))[:5])
        found["plain"].append(f"{i}" in ids(search(caption, "clip-mini"))[:5])
        found["mixed"].append(f"{i}" in ids(search(caption, "clip-mini", **blend))[:5])
    mean = {name: _mean(values) for name, values in found.items()}
    return {
        "success_at_5": mean["code"], "success_at_5_without": mean["code_without"],
        "recall_at_5": [mean["plain"], mean["mixed"]],
    }  # fmt: skip


def copies(images: Sequence[Any]) -> dict[str, Any]:
    """Index four slightly different crops of each image, and search with the captions."""
    made = DocumentArray()
    for number, (one, cut) in enumerate(product(images, range(4))):
        crop = Image.open(io.BytesIO(one.jpeg)).crop((cut, cut, 120 - cut, 120 - cut))
        crop.save(file := io.BytesIO(), "JPEG", quality=92 - 4 * cut)
        made.append(Document(id=f"{number}", blob=file.getvalue(), tags={"product": f"p{number // 4}"}))
    finetuner.index(made, artifact="clip-mini")
    found: dict[str, Any] = {}
    for name, asked in (("plain", {}), ("hidden", {"hide_duplicates": 0.95}), ("grouped", {"group_by": "product"})):
        distinct: list[int] = []
        right: list[bool] = []
        for number, image in enumerate(images):
            products = [int(each) // 4 for each in ids(search(image.captions["en"], "clip-mini", **asked))]
            distinct.append(len(set(products)))
            right.append(number in products)
        found[name] = {"distinct": _mean(distinct), "recall_at_10": _mean(right)}
    finetuner.delete_documents(made[:, "id"])
    return found


def filled(count: int) -> Library:
    """Index documents of given vectors, and wait for their graph."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(-(-count // 4), DIM)) / DIM**0.5
    vectors = np.repeat(centres, 4, axis=0)[:count] + COPY_NOISE * rng.normal(size=(count, DIM)) / DIM**0.5
    names = [f"n{i}" for i in range(count)]
    tags = [
        {
            "product": f"p{i // 4}", "price": float(i * 7919 % 977), "sku": f"AB-{i}/X",
            "colour": COLOURS[i * 31 % len(COLOURS)], "title": " ".join(rng.choice(WORDS, 6)),
        }
        for i in range(count)
    ]  # fmt: skip
    for start in range(0, count, 1000):
        finetuner.index(
            DocumentArray(
                Document(id=names[i], embedding=vectors[i].astype(np.float32), tags={**tags[i], ARTIFACT_TAG: "m"})
                for i in range(start, min(start + 1000, count))
            ),
            artifact="m",
        )
    while count >= EXACT_BELOW and not _graph_of("m", finetuner.index_status()):
        time.sleep(0.5)
    return Library(names, vectors.astype(np.float32), tags)


def _graph_of(artifact: str, status: Any) -> bool:
    """Return whether the graph of a collection is built."""
    return not status["building"] and any(
        each["artifact"] == artifact and each["indexed"] for each in status["collections"]
    )


def asked_of(library: Library, number: int) -> tuple[Document, NDArray[np.float64]]:
    """Return a query, near a product, with a text."""
    rng = np.random.default_rng(1000 + number)
    target = library.vectors[int(rng.integers(len(library.ids)))]
    vector = (target + rng.normal(size=DIM) / DIM**0.5).astype(np.float32)
    text = f"{WORDS[number % 12]} {WORDS[(number + 5) % 12]}"
    return Document(text=text, embedding=vector, tags={ARTIFACT_TAG: "m"}), vector.astype(np.float64)


def checked(library: Library) -> dict[str, int]:
    """Return how many searches of each feature equal the naive loops.

    Raises:
        SystemExit: one does not.
    """
    equal: dict[str, int] = {}

    def check(name: str, found: Any, expected: Any) -> None:
        if found != expected:
            raise SystemExit(f"{name} must equal a naive loop. Got {found} instead of {expected}")
        equal[name] = equal.get(name, 0) + 1

    for number, condition in product(range(CHECKS), (None, FILTER)):
        query, vector = asked_of(library, number)

        def ask(query: Document = query, condition: Any = condition, **asked: Any) -> Document:
            return search(query, "m", exact=True, filter=condition, **asked)

        def passing(tags: Any, condition: Any = condition) -> bool:
            return condition is None or (tags["price"] < 600 and tags["colour"] in ("red", "blue"))

        near = library.best(vector, passing)
        pool = near[:DEPTH]
        check("plain", ids(ask()), near[:10])
        towards = brute_force.like(library, vector, EXAMPLES["positives"], EXAMPLES["negatives"])
        without = [*EXAMPLES["positives"], *EXAMPLES["negatives"]]
        check("examples", ids(ask(**EXAMPLES)), library.best(towards, passing, without)[:10])
        mixed = brute_force.hybrid(library, near, query.text, HYBRID["fields"], HYBRID["weight"], DEPTH)
        check("hybrid", ids(ask(hybrid=HYBRID, candidates=DEPTH)), mixed[:10])
        varied = brute_force.diverse(library, vector, pool, 0.4, 10)
        check("diversity", ids(ask(diversity=0.4, candidates=DEPTH)), varied)
        tidy = ask(hide_duplicates=0.95, candidates=DEPTH)
        hidden = int(tidy.tags[SEARCH_TAG]["hidden"])
        check("hide_duplicates", (ids(tidy), hidden), brute_force.tidy(library, pool, 0.95, 10))
        pairs = brute_force.grouped(library, pool, "product", 10, 2)
        check("group_by", ids(ask(group_by="product", group_size=2, candidates=DEPTH)), pairs)
        for order in ("price", "-price"):
            by_price = brute_force.ordered(library, pool, "price", order.startswith("-"))
            check("order_by", ids(ask(order_by=order, candidates=DEPTH)), by_price[:10])
        facets = ask(facets={"colour": 12, "price": [100, 500]}).tags[SEARCH_TAG]["facets"]
        check("facets", facets["colour"]["values"], brute_force.counts(library, near, "colour", 12))
        within = [int(each["count"]) for each in facets["price"]["ranges"]]
        check("facets", within, brute_force.ranges(library, near, "price", [100, 500]))
        seen: list[str] = []
        cursor = "*"
        for _ in range(5):
            page = ask(cursor=cursor)
            seen += ids(page)
            cursor = page.tags[SEARCH_TAG]["cursor"]
        check("cursor", seen, brute_force.rounded(library, vector, near)[:50])
    return equal


def prices(library: Library) -> dict[str, Any]:
    """Return the time of each feature's searches."""
    times: dict[str, list[float]] = {name: [] for name in ("plain", *FEATURES)}
    started = time.perf_counter()
    search(asked_of(library, 0)[0], "m", hybrid={"fields": ["colour", "product"]})
    first = time.perf_counter() - started
    for number in range(ROUNDS):
        query, _ = asked_of(library, 100 + number)
        for name, taken in times.items():
            started = time.perf_counter()
            search(query, "m", **FEATURES.get(name, {}))
            taken.append(time.perf_counter() - started)
    p50 = {name: float(np.median(taken)) * 1000 for name, taken in times.items()}
    ratios = {name: round(value / p50["plain"], 2) for name, value in p50.items()}
    rounded = {name: round(value, 2) for name, value in p50.items()}
    return {"p50_ms": rounded, "p50_ratio": ratios, "first_hybrid_s": round(first, 2)}


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


if __name__ == "__main__":
    main()
