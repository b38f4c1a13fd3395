"""A caller of one text at a time, with a pause after each answer, in a process of its own: `-m`, PROTOCOL PORT [TOKEN].

Beside the client of a flood it would wait for that client, too. It prints a line once it is ready, and begins with the
first line of its standard input. It stops once that is closed, FEWEST answers at least, and prints the p95 of their
times in ms.
"""

from __future__ import annotations

import asyncio
import sys
import time

import numpy as np
from docarray import Document

from finetuner.contract.wire import ENCODE

from .lean_clients import by_grpc, by_http

PAUSE, FEWEST = 0.2, 20
WORDS = [f"a {colour} {item}" for colour in ("red", "blue", "green", "black") for item in ("dress", "hat", "shirt")]


async def main(protocol: str, port: int, token: str = "") -> None:
    """Ask, and print."""
    if protocol == "rest":
        connect = by_http(port, "/v1/embeddings", [{"input": word} for word in WORDS], token)
    else:
        connect = by_grpc(port, ENCODE, [[Document(text=word)] for word in WORDS])
    taken: list[float] = []
    async with connect as send:
        await send(0)  # opens the connection
        print("ready", flush=True)
        sys.stdin.readline()
        ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        while len(taken) < FEWEST or not ended.done():
            await asyncio.sleep(PAUSE)
            started = time.perf_counter()
            await send(len(taken))
            taken.append(time.perf_counter() - started)
    print(float(np.percentile(taken, 95)) * 1000)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
