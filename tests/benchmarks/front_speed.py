"""The price of a request of one text or one image: our Flow, and servers that do nothing but the forward pass.

clip-mini on one thread, with the same weights everywhere. `--callers` callers, each with a connection of its own, send
the next request as soon as the last one is answered. A row has the CPU milliseconds a request of each server process;
the client shares the machine and is not counted. The client is a few lines over asyncio: httpx drops connections past
30 callers. `--before` is a checkout of another commit, served in the same run; `--infinity` gets clip-mini as it is
exported to transformers. clip-server is not asked here (its key is null): it does not read clip-mini's weights;
serve_speed.py compares it with a ViT-B-32.

Prints a line of JSON last. CPU a request over the bare server's: `rest_vs_bare_1`, `rest_vs_bare_32`, `image_vs_bare`;
search over encoding at 32 callers: `search_vs_encode`. Latency: `grpc_p50_vs_bare_1`, `p99_over_p50_32`,
`p99_over_p50_128`, `flood_p95_vs_alone` of a token beside one that sends 2,000 requests at once over 100 HTTP
connections, and `grpc_flood_p95_vs_alone` of a gRPC connection beside one that sends as many. Requests a second at 32
callers over the other commit's: `grpc_32_vs_before`; over infinity's: `vs_infinity_32`. `failed` counts requests
without their vector.

    python tests/benchmarks/front_speed.py --seconds 8 --before /tmp/other-checkout
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "JINA_OPTOUT_TELEMETRY": "1"}

import grpc
import numpy as np
import psutil
import yaml
from docarray import Document
from peers.lean_clients import Send, by_bare_grpc, by_grpc, by_http
from peers.running import ROOT, Connect, Server, answers, free_port, started
from serve_speed import jpegs, texts

from finetuner.contract.wire import ENCODE
from finetuner.exports.clip_model import write_clip_model
from finetuner.models.backbones import find_backbone
from finetuner.models.clip_files import load_backbone
from finetuner.workspace.tokens import TokenFile

SCRIPTS = Path(__file__).parent / "peers"
ROOMS = ("text_encoder", "vision_encoder", "indexer")
INDEXED = 1000
EMBEDDINGS = "/v1/embeddings"
FLOOD, AT_ONCE = 2000, 100
REST_FLOOD, GRPC_FLOOD = "rest embeddings beside a flood", "grpc encode beside a flood"


async def measured(server: Server, way: str, callers: int, seconds: float) -> dict[str, Any]:
    """Return a row: throughput, latencies in ms, and CPU ms a request by process."""
    taken: list[float] = []
    failed, ends = 0, 0.0
    async with AsyncExitStack() as stack:
        sends = [await stack.enter_async_context(server.ways[way]()) for _ in range(callers)]

        async def call(number: int, send: Send) -> None:
            nonlocal failed
            while (started := time.perf_counter()) < ends:
                try:
                    await send(number)
                except (OSError, asyncio.IncompleteReadError, grpc.aio.AioRpcError) as error:
                    failed += 1
                    print(f"{server.name} {way}: {error}", file=sys.stderr)
                    await asyncio.sleep(0.1)
                taken.append(time.perf_counter() - started)
                number += callers

        for length in (min(2.0, seconds), seconds):  # the first to warm up
            taken.clear()
            before, begun = server.cpu(), time.perf_counter()
            ends = begun + length
            await asyncio.gather(*(call(number, send) for number, send in enumerate(sends)))
            after, lasted = server.cpu(), time.perf_counter() - begun
    cpu = {name: round((after[name] - before[name]) / len(taken) * 1000, 2) for name in after}
    p50, p99 = np.percentile(taken, (50, 99)) * 1000
    return {
        "server": server.name,
        "way": way,
        "callers": callers,
        "requests": len(taken),
        "per_second": round(len(taken) / lasted, 1),
        "p50": round(float(p50), 2),
        "p99": round(float(p99), 2),
        "cpu_ms": round(sum(cpu.values()), 2),
        "by_process": {name: ms for name, ms in cpu.items() if ms},
        "failed": failed,
    }


async def beside_flood(server: Server, way: str, many: Connect, lone: Sequence[object], at_once: int) -> dict[str, Any]:
    """Return a row: p95 in ms of a request every 0.2 s, alone and beside FLOOD of them, AT_ONCE in flight.

    Args:
        server: the server.
        way: name of the row.
        many: makes a connection of the flood's caller.
        lone: arguments of lone_caller.py, the other caller.
        at_once: connections of the flood.
    """

    async def lone_p95(beside: Callable[[], Awaitable[object]]) -> float:
        command = [sys.executable, "-m", "peers.lone_caller", *map(str, lone)]
        caller = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, cwd=SCRIPTS.parent)
        assert caller.stdin is not None
        assert caller.stdout is not None
        await caller.stdout.readline()  # it is ready
        caller.stdin.write(b"begin\n")
        await beside()
        printed, _ = await caller.communicate()
        return float(printed)

    async with AsyncExitStack() as stack:
        sends = [await stack.enter_async_context(many()) for _ in range(at_once)]

        async def part(send: Send) -> None:
            for number in range(FLOOD // AT_ONCE):
                await send(number)

        async def flood() -> None:
            await asyncio.gather(*(part(sends[number % at_once]) for number in range(AT_ONCE)))

        alone = await lone_p95(partial(asyncio.sleep, 0))
        beside = await lone_p95(flood)
    return {"server": server.name, "way": way, "p95_alone": alone, "p95": beside, "failed": 0}


async def floods(server: Server, workspace: Path) -> AsyncIterator[dict[str, Any]]:
    """Yield the rows of a flood over one gRPC connection, and over many HTTP connections with one token."""
    connect = server.of_token
    assert connect is not None
    grpc_port, http_port = server.ports
    yield await beside_flood(server, GRPC_FLOOD, server.ways["grpc encode"], ("grpc", grpc_port), 1)
    tokens = TokenFile(workspace)  # from here on, the Flow needs them
    many, one = (tokens.create(name, "admin") for name in ("many", "one"))
    yield await beside_flood(server, REST_FLOOD, connect(many), ("rest", http_port, one), AT_ONCE)


@asynccontextmanager
async def flow(name: str, root: Path, folder: Path) -> AsyncIterator[Server]:
    """Run the encoders and the indexer of a checkout behind its gateway."""
    folder.mkdir()
    grpc_port, http_port, *metrics = (free_port() for _ in range(3 + len(ROOMS)))
    content = yaml.safe_load((root / "flows" / "search.yml").read_text())
    for room, port in zip([content["gateway"], *content["executors"]], metrics, strict=True):
        room["uses"] = str(root / "flows" / room["uses"])
        room["port_monitoring"] = port
        room["replicas"] = 1
        if "threads" in room["uses_with"]:
            room["uses_with"]["threads"] = 1
    log = folder / "flow.log"
    (folder / "speed.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    words, images = texts(INDEXED), jpegs(16, 500, 375)
    inputs = [{"input": word} for word in words]
    documents = [{"text": word} for word in words]

    def rest(path: str, bodies: Sequence[Any]) -> Connect:
        return lambda: by_http(http_port, path, bodies)

    ways: dict[str, Connect] = {
        "rest embeddings": rest(EMBEDDINGS, inputs),
        "rest embeddings of 32": rest(EMBEDDINGS, [{"input": words[start : start + 32]} for start in range(900)]),
        "rest search": rest("/v1/search", [{"queries": [document]} for document in documents]),
        "grpc encode": lambda: by_grpc(grpc_port, ENCODE, [[Document(text=word)] for word in words]),
        "grpc encode of 32": lambda: by_grpc(
            grpc_port,
            ENCODE,
            [[Document(text=word) for word in words[start : start + 32]] for start in range(0, 900, 32)],
        ),
        "grpc images": lambda: by_grpc(grpc_port, ENCODE, [[Document(blob=image)] for image in images]),
    }
    up = ["up", "--flow", "speed", "--workspace", folder, "--grpc-port", grpc_port, "--http-port", http_port]
    async with started([sys.executable, "-m", "finetuner.cli", *up], log, root, FINETUNER_FLOWS=folder) as process:
        await answers(rest("/v1/index", [{"documents": documents}]), process, log)
        await answers(ways["grpc images"], process, log)
        found = {}
        for child in psutil.Process(process.pid).children(recursive=True):
            listens = {each.laddr.port for each in child.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
            found |= {room: child for room, port in zip(("gateway", *ROOMS), metrics, strict=True) if port in listens}
        of_token = lambda token: lambda: by_http(http_port, EMBEDDINGS, inputs, token)  # noqa: E731
        yield Server(name, found, ways, of_token, (grpc_port, http_port))


@asynccontextmanager
async def bare(protocol: str, folder: Path) -> AsyncIterator[Server]:
    """Run a server of bare_servers.py."""
    port, log = free_port(), folder / f"bare-{protocol}.log"
    words = texts(INDEXED)
    ways: dict[str, Connect]
    if protocol == "rest":
        ways = {"rest embeddings": lambda: by_http(port, "/", [{"input": word} for word in words])}
    else:
        ways = {
            "grpc encode": lambda: by_bare_grpc(port, "text", [word.encode() for word in words]),
            "grpc images": lambda: by_bare_grpc(port, "image", jpegs(16, 500, 375)),
        }
    async with started([sys.executable, SCRIPTS / "bare_servers.py", protocol, port], log) as process:
        await answers(next(iter(ways.values())), process, log)
        yield Server("bare", {"bare": psutil.Process(process.pid)}, ways)


@asynccontextmanager
async def infinity(python: Path, folder: Path) -> AsyncIterator[Server]:
    """Run infinity, in a virtual environment of its own, on clip-mini as transformers loads it."""
    model, port, log = folder / "clip", free_port(), folder / "infinity.log"
    model.mkdir()
    write_clip_model(load_backbone(find_backbone("clip-mini")), model)
    words = texts(INDEXED)
    bodies = [{"model": model.name, "input": [word], "modality": "text"} for word in words]
    ways: dict[str, Connect] = {"rest embeddings": lambda: by_http(port, "/embeddings", bodies)}
    options = ["--device", "cpu", "--engine", "torch", "--dtype", "float32", "--batch-size", "32", "--port", port]
    command = [python.with_name("infinity_emb"), "v2", "--model-id", model, "--served-model-name", model.name, *options]
    quiet = {"HF_HUB_OFFLINE": 1, "INFINITY_ANONYMOUS_USAGE_STATS": 0, "DO_NOT_TRACK": 1}
    async with started([*command, "--no-bettertransformer"], log, **quiet) as process:
        await answers(ways["rest embeddings"], process, log)
        yield Server("infinity", {"infinity": psutil.Process(process.pid)}, ways)


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return the keys of the module's docstring; null for what was not measured."""
    by = {(row["server"], row["way"], row.get("callers", 1)): row for row in rows}

    def ratio(figure: str, mine: tuple[str, str, int], other: tuple[str, str, int]) -> float | None:
        return round(by[mine][figure] / by[other][figure], 2) if mine in by and other in by else None

    def tail(callers: int) -> float | None:
        row = by.get(("ours", "rest embeddings", callers))
        return round(row["p99"] / row["p50"], 2) if row else None

    def flood(way: str) -> float | None:
        row = by.get(("ours", way, 1))
        return round(row["p95"] / row["p95_alone"], 2) if row else None

    def cpu(way: str, callers: int) -> float | None:
        return ratio("cpu_ms", ("ours", way, callers), ("bare", way, callers))

    return {
        "rest_vs_bare_1": cpu("rest embeddings", 1),
        "rest_vs_bare_32": cpu("rest embeddings", 32),
        "vs_infinity_32": ratio("per_second", ("ours", "rest embeddings", 32), ("infinity", "rest embeddings", 32)),
        "vs_clip_server": None,
        "p99_over_p50_32": tail(32),
        "p99_over_p50_128": tail(128),
        "failed": sum(row["failed"] for row in rows if row["server"] == "ours"),
        "grpc_p50_vs_bare_1": ratio("p50", ("ours", "grpc encode", 1), ("bare", "grpc encode", 1)),
        "grpc_32_vs_before": ratio("per_second", ("ours", "grpc encode", 32), ("before", "grpc encode", 32)),
        "search_vs_encode": ratio("cpu_ms", ("ours", "rest search", 32), ("ours", "rest embeddings", 32)),
        "image_vs_bare": cpu("grpc images", 32),
        "flood_p95_vs_alone": flood(REST_FLOOD),
        "grpc_flood_p95_vs_alone": flood(GRPC_FLOOD),
    }


async def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--callers", type=int, nargs="*", default=[1, 8, 32, 128])
    parser.add_argument("--ways", nargs="*", help="such as 'rest embeddings'; all without it")
    parser.add_argument("--before", type=Path, help="checkout of another commit")
    parser.add_argument("--infinity", type=Path, help="Python of an environment with infinity-emb[server,torch,vision]")
    parser.add_argument("--no-bare", action="store_true", help="leave the bare servers out")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="finetuner-") as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(flow("ours", ROOT, folder / "ours"))]
            if asked.before:
                before = flow("before", asked.before.resolve(), folder / "before")
                servers.append(await stack.enter_async_context(before))
            if not asked.no_bare:
                servers += [await stack.enter_async_context(bare(each, folder)) for each in ("rest", "grpc")]
            if asked.infinity:
                servers.append(await stack.enter_async_context(infinity(asked.infinity, folder)))
            for way in asked.ways or servers[0].ways:
                for callers in asked.callers:
                    for server in servers:
                        if way in server.ways:
                            rows.append(await measured(server, way, callers, asked.seconds))
                            print(rows[-1], file=sys.stderr, flush=True)
            async for row in floods(servers[0], folder / "ours"):
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
    settings = {"seconds": asked.seconds, "cpus": os.cpu_count(), "before": asked.before and str(asked.before)}
    print(json.dumps(settings | {"rows": rows} | ratios(rows)))


if __name__ == "__main__":
    asyncio.run(main())
