"""Search through the Flow against the same shard in this process: time, recall, filters, and upserts.

Clustered unit vectors go through `/index` with their artifact tag, so no encoder works; then the Flow builds its graph.
The raw engine opens a copy of the Flow's own shard here, so both search the same graph. Requests of 32 queries take
turns between the two; times are medians of whole requests.
Recall compares with brute force in numpy, filters let 1%, 10% and 50% of the documents pass. Then the index is opened
again by a process of its own. Prints a line of JSON last: `vs_raw_engine` is the Flow's time over the engine's,
`recall_at_10`, `p50_ms` and `p95_ms` are the Flow's, a request; `indexer_peak_mb` is the indexer's resident memory with
that of the process that builds its graph, `indexer_peak_own_mb` the same without pages of files, which the system may
drop at any time. Of requests with one query: `single_p50_ms`, `single_p95_ms` and `single_vs_raw_engine` by one caller,
in turns with the engine; `callers_16_per_s`, `callers_16_p50_ms` and `callers_16_p95_ms` by 16 callers at once.

    python tests/benchmarks/search_speed.py --vectors 100000

With `--memory-gb N` (as root) the Flow, and the process that opens the index again, may have N GB in all, pages of
files included: the kernel drops those, or ends a process. `ended_for_memory` says how many it has ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("JINA_OPTOUT_TELEMETRY", "1")

import numpy as np
import psutil
import yaml
from docarray import Document, DocumentArray
from jina import Client
from numpy.typing import NDArray
from peers.single_queries import single_queries

from finetuner.contract.wire import ARTIFACT_TAG, INDEX, SEARCH, STATUS, error_of, read_reply
from finetuner.executors.indexer.engines.edge import EdgeEngine
from finetuner.executors.indexer.engines.engine import Collection, SearchOptions
from finetuner.flow.running_flow import RunningFlow
from finetuner.flow.settings import flow_file
from finetuner.transport.connection import Connection

ARTIFACT = "benchmark"
QUERIES, LIMIT, BATCH = 32, 10, 500
SHARES = {"1%": 10, "10%": 100, "50%": 500}  # of a thousand


def clustered(count: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Return unit vectors around a thousand centres, (count, dim) float32."""
    centres = np.random.default_rng(0).normal(size=(1000, dim)).astype(np.float32)
    generator = np.random.default_rng(seed)
    vectors = centres[generator.integers(0, 1000, count)]
    vectors += 0.7 * generator.normal(size=(count, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def documents(vectors: NDArray[np.float32], first: int) -> DocumentArray:
    return DocumentArray(
        Document(
            id=str(first + row), text=f"document {first + row}", embedding=vector,
            tags={ARTIFACT_TAG: ARTIFACT, "number": (first + row) % 1000},
        )
        for row, vector in enumerate(vectors)
    )  # fmt: skip


def best_of(vectors: NDArray[np.float32], queries: NDArray[np.float32], share: int) -> NDArray[np.int64]:
    """Return the numbers of each query's nearest vectors that pass, by brute force, (queries, 10)."""
    passing = np.flatnonzero(np.arange(len(vectors)) % 1000 < share)
    chosen = vectors if share == 1000 else vectors[passing]
    best = []
    for some in np.array_split(queries, -(-len(queries) // QUERIES)):  # of a million vectors all cosines are 2.5 GB
        cosines = some @ chosen.T
        found = np.argpartition(-cosines, LIMIT, axis=1)[:, :LIMIT]
        order = np.argsort(-np.take_along_axis(cosines, found, axis=1), axis=1)
        best.append(passing[np.take_along_axis(found, order, axis=1)])
    return np.concatenate(best)


def recall(found: list[list[str]], best: NDArray[np.int64]) -> float:
    return float(
        np.mean([len({*map(int, ids)} & {*row}) / LIMIT for ids, row in zip(found, best.tolist(), strict=True)])
    )


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    answer = call()
    return time.perf_counter() - started, answer


class Memory:
    """The largest resident memory of a Flow's indexer with its child processes, looked at twice a second.

    Attributes:
        peak_mb: everything resident.
        own_mb: without the pages of files.
    """

    def __init__(self, flow: RunningFlow) -> None:
        self._indexer = next(
            process for process in psutil.Process(flow.pid).children(recursive=True) if _listens(process, flow.metrics)
        )
        self.peak_mb = self.own_mb = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            resident = own = 0
            with suppress(psutil.NoSuchProcess):
                for process in [self._indexer, *self._indexer.children(recursive=True)]:
                    memory = process.memory_info()
                    resident, own = resident + memory.rss, own + memory.rss - memory.shared
            self.peak_mb, self.own_mb = max(self.peak_mb, resident >> 20), max(self.own_mb, own >> 20)


class Limit:
    """A control group of the kernel's with so much memory; processes started in the block are in it.

    Args:
        gigabytes: None for no limit.
    """

    def __init__(self, gigabytes: float | None) -> None:
        self._own = next(
            (Path("/sys/fs/cgroup", kind) / path.strip("/")
             for _, kind, path in (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
             if kind in ("memory", "") and (Path("/sys/fs/cgroup", kind) / path.strip("/") / "cgroup.procs").exists()),
            Path(),
        )  # fmt: skip
        self._group = self._own / f"search-speed-{os.getpid()}" if gigabytes else None
        if self._group is not None and gigabytes:
            self._group.mkdir()
            old = self._group / "memory.limit_in_bytes"  # of the first version of control groups
            (old if old.exists() else self._group / "memory.max").write_text(str(round(gigabytes * 1e9)))

    def __enter__(self) -> None:
        self._move(self._group)

    def __exit__(self, *_: object) -> None:
        self._move(self._own)

    @staticmethod
    def _move(group: Path | None) -> None:
        if group is not None and group != Path():
            (group / "cgroup.procs").write_text(str(os.getpid()))

    def close(self) -> int | None:
        """Forget the group, which is empty by now; return how many processes had to be ended."""
        if self._group is None:
            return None
        events = self._group / "memory.oom_control"
        lines = (events if events.exists() else self._group / "memory.events").read_text().splitlines()
        self._group.rmdir()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _listens(process: psutil.Process, metrics: dict[str, str]) -> bool:
    port = urlsplit(metrics["indexer"]).port
    return any(connection.laddr.port == port for connection in process.net_connections() if connection.laddr)


def reopened(workspace: Path, query: NDArray[np.float32], quantise: str) -> dict[str, float]:
    """Open the index in a process of its own, and search it once."""
    code = (
        "import sys, time, resource, numpy as np\n"
        "from finetuner.executors.indexer.engines.edge import EdgeEngine\n"
        "from finetuner.executors.indexer.index import Index\n"
        "from finetuner.executors.indexer.engines.engine import SearchOptions\n"
        "from pathlib import Path\n"
        "started = time.perf_counter(); index = Index(Path(sys.argv[1]) / 'index', EdgeEngine(sys.argv[4]))\n"
        "opened = time.perf_counter(); index.collection(sys.argv[2]).search(np.load(sys.argv[3]), SearchOptions(10))\n"
        "print(opened - started, time.perf_counter() - opened, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
        "index.close()"
    )
    np.save(workspace / "query.npy", query)
    command = [
        sys.executable,
        "-c",
        code,
        str(workspace),
        ARTIFACT,
        str(workspace / "query.npy"),
        quantise,
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return {
        "reopen_s": round(float(printed[0]), 2), "first_search_s": round(float(printed[1]), 2),
        "reopened_peak_mb": int(printed[2]) >> 10,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--quantise", choices=("int8", "binary"), default="")
    parser.add_argument("--content", action="store_true", help="matches with content")
    parser.add_argument("--memory-gb", type=float, help="memory of the Flow, pages of files included; as root")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="search-speed-"))
    try:
        print(json.dumps(measured(options, folder)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the figures."""
    flow = folder / "flows" / "finetuner.yml"
    shutil.copytree(flow_file().parent, flow.parent)
    content = yaml.safe_load(flow.read_text())
    for room in [content["gateway"], *content["executors"]]:
        room["uses"] = str((flow_file().parent / room["uses"]).resolve())
        if room.get("name") == "indexer":
            room["uses_with"]["quantise"] = options.quantise or False
    flow.write_text(yaml.safe_dump(content, sort_keys=False))
    limit = Limit(options.memory_gb)
    with ExitStack() as stack:
        with limit:
            running = stack.enter_context(RunningFlow(folder / "workspace", flow=flow))
        memory = stack.enter_context(Memory(running))
        client = Client(host=running.host)
        started = time.perf_counter()
        for first in range(0, options.vectors, BATCH):
            count = min(BATCH, options.vectors - first)
            answer = client.post(
                INDEX, documents(clustered(count, options.dim, first + 1), first), parameters={"artifact": ARTIFACT},
                request_size=-1,
            )  # fmt: skip
            assert error_of(answer[0]) is None, error_of(answer[0])
        upserts = options.vectors / (time.perf_counter() - started)
        print(f"{upserts:.0f} upserts/s; building the graph", flush=True)
        built = wait_for_graph(client, options.vectors)
        shard = folder / "raw"
        (collection,) = (folder / "workspace" / "index").glob("*/collection.json")
        shutil.copytree(collection.parent, shard)
        raw = EdgeEngine(options.quantise).open(shard, "", options.dim)
        figures = compare(Connection(running.host), raw, options)
        asked = clustered(QUERIES * options.requests, options.dim, -2 % 2**32)
        engine = lambda vectors: raw.search(vectors, SearchOptions(LIMIT))  # noqa: E731
        figures |= asyncio.run(single_queries(running.host, engine, asked, ARTIFACT))
        raw.close()
    shutil.rmtree(shard)
    with limit:
        figures |= reopened(folder / "workspace", clustered(QUERIES, options.dim, 0), options.quantise)
    return {
        "vectors": options.vectors, "dim": options.dim, "quantised": options.quantise, "cpu": platform.processor(),
        "cores": os.cpu_count(), "upserts_per_s": round(upserts), "graph_s": round(built), **figures,
        "indexer_peak_mb": memory.peak_mb, "indexer_peak_own_mb": memory.own_mb,
        "memory_gb": options.memory_gb, "ended_for_memory": limit.close(),
    }  # fmt: skip


def wait_for_graph(client: Client, vectors: int) -> float:
    """Return the seconds until all but a few vectors are in the graph; below 20,000 there is none."""
    started = time.perf_counter()
    while True:
        status = read_reply(client.post(STATUS, DocumentArray())[0])
        (collection,) = status["collections"]
        if not status["building"] and vectors - collection["indexed"] < 20_000:
            return time.perf_counter() - started
        time.sleep(2)


def compare(flow: Connection, raw: Collection, options: argparse.Namespace) -> dict[str, Any]:
    """Search in turns, unfiltered and filtered."""
    vectors = np.concatenate(
        [
            clustered(min(BATCH, options.vectors - first), options.dim, first + 1)
            for first in range(0, options.vectors, BATCH)
        ]
    )
    queries = clustered(QUERIES * options.requests, options.dim, -1 % 2**32).reshape(-1, QUERIES, options.dim)
    figures: dict[str, Any] = {}
    for name, share in {"all": 1000, **SHARES}.items():
        given = None if share == 1000 else {"number": {"$lt": share}}
        condition = given and {"must": [{"key": "tags.number", "range": {"lt": float(share)}}]}
        asked_raw = SearchOptions(LIMIT, filter=condition)
        by_flow, by_engine, found, raw_found = [], [], [], []
        for request in queries:
            asked = DocumentArray(Document(embedding=vector, tags={ARTIFACT_TAG: ARTIFACT}) for vector in request)
            parameters = {"limit": LIMIT, "return_content": options.content} | ({"filter": given} if given else {})
            seconds, answer = timed(lambda a=asked, p=parameters: flow.post(SEARCH, a, p))
            by_flow.append(seconds)
            found += [document.matches[:, "id"] for document in answer]
            seconds, hits = timed(lambda r=request, o=asked_raw: raw.search(r, o))
            by_engine.append(seconds)
            raw_found += [[hit.id for hit in one] for one in hits]
        best = best_of(vectors, queries.reshape(-1, options.dim), share)
        ms = 1000 * np.sort(by_flow[1:])
        print(
            f"{name:4} flow p50 {np.median(ms):.1f} ms, "
            f"engine {1000 * np.median(by_engine[1:]):.1f} ms a request, "
            f"recall@10 {recall(found, best):.4f}, of the engine {recall(raw_found, best):.4f}",
            flush=True,
        )
        if share == 1000:
            figures |= {
                "vs_raw_engine": round(float(np.median(ms) / np.median(by_engine[1:]) / 1000), 3),
                "recall_at_10": round(recall(found, best), 4),
                "p50_ms": round(float(np.median(ms)), 2),
                "p95_ms": round(float(np.percentile(ms, 95)), 2),
            }
        else:
            figures[f"filtered_{name}"] = {
                "recall_at_10": round(recall(found, best), 4), "p50_ms": round(float(np.median(ms)), 2),
                "vs_raw_engine": round(float(np.median(ms) / np.median(by_engine[1:]) / 1000), 3),
            }  # fmt: skip
    return figures


if __name__ == "__main__":
    main()
