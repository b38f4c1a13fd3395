"""What the holder of a read token, or of none, can do to a running Flow while an honest caller goes on.

Starts the real Flow with tokens, indexes documents, and attacks it in every way alone, then 4 times at once. An honest
caller sends one text every 100 ms. Prints a line of JSON last: `worst_stall_s` (slowest honest answer),
`worst_growth_mb` (of one process over what it had at rest), `kept_mb` (30 s after the last attack), `entered` (refusals
that did not come), `lost` (acknowledged documents that are gone). Fails past 1 s, 300 MB, or where anything has entered
or is lost.

    python tests/benchmarks/attack.py                # all
    python tests/benchmarks/attack.py bombs resets   # those whose names hold one of the words
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

os.environ.setdefault("JINA_OPTOUT_TELEMETRY", "1")

import grpc
import httpx
import psutil
from google.protobuf.internal.encoder import _VarintBytes as varint

from finetuner.flow.running_flow import RunningFlow
from finetuner.workspace.tokens import TokenFile

DOCUMENTS = 200
STALL_S, GROWTH_MB = 1.0, 300.0
TEXT = {"data": [{"text": "a red dress"}]}
DATA = "/jina.JinaSingleDataRequestRPC/process_single_data"
STREAM = "/jina.JinaRPC/Call"
WRITES = (
    "/index",
    "/delete",
    "/fit",
    "/artifacts/promote",
    "/index/backup",
    "/collections/drop",
    "/experiments/create",
)


def part(tag: int, content: bytes) -> bytes:
    """Return a field of protobuf: its tag, its length and its content."""
    return bytes([tag]) + varint(len(content)) + content


def message(documents: bytes) -> bytes:
    """Return a DataRequest for /encode."""
    return part(0x0A, part(0x1A, b"/encode")) + part(0x22, part(0x0A, documents))


def repeated(item: bytes, times: int, before: bytes, after: bytes) -> bytes:
    """Return JSON with a list of `times` items."""
    return before + (item + b",") * (times - 1) + item + after


MESSAGES: dict[str, Callable[[], bytes]] = {
    "100,000 documents": lambda: message(b"\x0a\x00" * 100_000),
    "a million documents": lambda: message(b"\x0a\x00" * 1_000_000),
    "100,000 chunks": lambda: message(part(0x0A, b"\x72\x00" * 100_000)),
    "the most documents allowed": lambda: message(b"\x0a\x00" * 4096),
    "no message": lambda: os.urandom(100_000),
}
BODIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "regex": ("/encode", lambda: b'{"data":[{"text":"a"}],"target_executor":"(((.+)+)+)+!"}'),
    "bombs: documents": ("/encode", lambda: repeated(b"{}", 1_000_000, b'{"data":[', b"]}")),
    "bombs: lists as documents": ("/v1/encode", lambda: repeated(b"[]", 5_000_000, b'{"documents":[', b"]}")),
    "bombs: chunks": ("/encode", lambda: repeated(b"{}", 100_000, b'{"data":[{"chunks":[', b"]}]}")),
    "bombs: parameters": ("/encode", lambda: repeated(b"[]", 5_000_000, b'{"data":[],"parameters":{"a":[', b"]}}")),
    "bombs: depth": ("/encode", lambda: b'{"data":' + b"[" * 200_000),
    "bombs: numbers": ("/encode", lambda: repeated(b"0.125", 1_000_000, b'{"data":[{"embedding":[', b"]}]}")),
    "bombs: nested tensor": ("/encode", lambda: repeated(b"[1,2,3]", 65_000, b'{"data":[{"tensor":[', b"]}]}")),
    "bombs: one number": ("/encode", lambda: b'{"data":[{"tags":{"a":' + b"9" * 1_000_000 + b"}}]}"),
    "long text": ("/encode", lambda: json.dumps({"data": [{"text": "x" * 50_000_000}]}).encode()),
    "the most documents allowed": ("/encode", lambda: repeated(b'{"text":"a"}', 4096, b'{"data":[', b"]}")),
}


@dataclass
class Siege:
    """A Flow under attack, and what was seen."""

    flow: RunningFlow
    token: str
    seconds: float = 0.0
    peaks: dict[int, float] = field(default_factory=dict)
    entered: list[str] = field(default_factory=list)

    @property
    def grpc_address(self) -> tuple[str, int]:
        parts = urlsplit(self.flow.host)
        return parts.hostname or "", parts.port or 0

    @property
    def http_address(self) -> tuple[str, int]:
        parts = urlsplit(self.flow.http)
        return parts.hostname or "", parts.port or 0

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"token {self.token}", "content-type": "application/json"}

    def memory(self) -> dict[int, float]:
        """Return the MB of each process of the Flow."""
        found = {}
        for process in self.flow._remaining():
            with suppress(psutil.Error):
                found[process.pid] = process.memory_info().rss / 2**20
        return found

    def honest(self, over: threading.Event) -> None:
        """Ask for one text every 100 ms."""
        with httpx.Client(base_url=self.flow.http, headers=self.headers, timeout=120) as client:
            while not over.is_set():
                started = time.perf_counter()
                try:
                    answer = client.post("/encode", json=TEXT)
                    assert "embedding" in answer.json()["data"][0], answer.text[:500]
                finally:
                    self.seconds = max(self.seconds, time.perf_counter() - started)
                time.sleep(0.1)

    def watch(self, over: threading.Event) -> None:
        """Take the peak of each process."""
        while not over.is_set():
            for pid, megabytes in self.memory().items():
                self.peaks[pid] = max(self.peaks.get(pid, 0.0), megabytes)
            time.sleep(0.2)


def send_message(siege: Siege, content: bytes) -> None:
    metadata = (("authorization", f"token {siege.token}"),)
    options = [("grpc.max_receive_message_length", -1)]
    address = siege.flow.host.removeprefix("grpc://")
    with suppress(grpc.RpcError), grpc.insecure_channel(address, options=options) as channel:
        channel.unary_unary(DATA)(content, timeout=60, metadata=metadata)


def send_body(siege: Siege, path: str, content: bytes) -> None:
    with suppress(httpx.HTTPError):
        httpx.post(f"{siege.flow.http}{path}", content=content, headers=siege.headers, timeout=60)


def leave(siege: Siege) -> None:
    """Stream the most that is allowed, and hang up."""
    metadata = (("authorization", f"token {siege.token}"),)
    with grpc.insecure_channel(siege.flow.host.removeprefix("grpc://")) as channel:
        content = message(b"\x0a\x00" * 4096)
        call = channel.stream_stream(STREAM)((content for _ in range(200)), metadata=metadata)
        time.sleep(1)
        call.cancel()


def hold(address: tuple[str, int], greeting: bytes, drip: bytes) -> None:
    """Hold 200 connections for some seconds, with a greeting each and then a byte now and then."""
    with ExitStack() as held:
        connections = []
        for _ in range(200):
            with suppress(OSError):
                connections.append(held.enter_context(socket.create_connection(address, timeout=5)))
        for connection in connections:
            with suppress(OSError):
                connection.sendall(greeting)
        for _ in range(12 if drip else 1):
            time.sleep(1)
            for connection in connections:
                with suppress(OSError):
                    connection.sendall(drip)


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """Return a frame of HTTP/2."""
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def literal(name: bytes, value: bytes) -> bytes:
    """Return a header as HPACK writes it without an index."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
HEAD = literal(b":method", b"POST") + literal(b":scheme", b"http") + literal(b":path", STREAM.encode())
HEAD += (
    literal(b":authority", b"localhost") + literal(b"content-type", b"application/grpc") + literal(b"te", b"trailers")
)


def flood(siege: Siege, content: Iterator[bytes]) -> None:
    """Send frames to the gRPC port until it hangs up or they end."""
    with suppress(OSError), socket.create_connection(siege.grpc_address, timeout=30) as connection:
        connection.sendall(PREFACE)
        for frames in content:
            connection.sendall(frames)


def resets(siege: Siege) -> None:
    """Open calls and take them back at once (CVE-2023-44487)."""
    flood(siege, (frame(1, 4, 2 * n + 1, HEAD) + frame(3, 0, 2 * n + 1, b"\0\0\0\x08") for n in range(50_000)))


def continuations(siege: Siege) -> None:
    """Send headers that do not end (CVE-2024-27316)."""

    def frames() -> Iterator[bytes]:
        yield frame(1, 0, 1, HEAD)
        for _ in range(5000):
            yield frame(9, 0, 1, literal(b"x" * 100, b"y" * 100) * 50)

    flood(siege, frames())


def guess(siege: Siege) -> None:
    """Try tokens, and what a reader must not do."""
    with httpx.Client(base_url=siege.flow.http, timeout=60) as client:
        for number in range(500):
            answer = client.post("/encode", json=TEXT, headers={"authorization": f"token guess-{number}"})
            if answer.status_code != 401:
                siege.entered.append(f"a guessed token: {answer.status_code}")
        for path in WRITES:
            answer = client.post(path, json={}, headers=siege.headers)
            if answer.status_code != 403:
                siege.entered.append(f"a reader at {path}: {answer.status_code}")


def knock(siege: Siege) -> None:
    """Ask the rooms' own ports."""
    known = {urlsplit(url).port for url in (siege.flow.host, siege.flow.http, *siege.flow.metrics.values())}
    ports = set()
    for process in siege.flow._remaining():
        with suppress(psutil.Error):
            ports |= {at.laddr.port for at in process.net_connections("tcp") if at.status == psutil.CONN_LISTEN}
    for port in ports - known:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                channel.unary_unary(DATA)(message(b"\x0a\x00"), timeout=30)
                siege.entered.append(f"the room at {port}")
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAUTHENTICATED:
                    siege.entered.append(f"the room at {port}: {error.code().name}")


def attacks() -> dict[str, Callable[[Siege], None]]:
    """Return every way by name."""
    found: dict[str, Callable[[Siege], None]] = {}
    for name, content in MESSAGES.items():
        found[f"gRPC, {name}"] = lambda siege, content=content: send_message(siege, content())
    for name, (path, content) in BODIES.items():
        found[f"HTTP, {name}"] = lambda siege, path=path, content=content: send_body(siege, path, content())
    found["callers that leave"] = leave
    found["half-open HTTP"] = lambda siege: hold(siege.http_address, b"POST /encode HTTP/1.1\r\nHost: x\r\n", b"X")
    found["idle gRPC"] = lambda siege: hold(siege.grpc_address, b"", b"")
    found["resets"] = resets
    found["continuations"] = continuations
    found["guesses"] = guess
    found["rooms"] = knock
    return found


@contextmanager
def siege_of(flow: RunningFlow, token: str) -> Iterator[tuple[Siege, dict[int, float]]]:
    """Yield the siege and the memory at rest, while the honest caller asks."""
    siege, over = Siege(flow, token), threading.Event()
    warm = threading.Thread(target=siege.honest, args=(over,))
    warm.start()
    time.sleep(10)
    rest, siege.seconds = siege.memory(), 0.0
    watching = threading.Thread(target=siege.watch, args=(over,))
    watching.start()
    try:
        yield siege, rest
    finally:
        over.set()
        warm.join()
        watching.join()


def indexed(flow: RunningFlow, token: str) -> int:
    """Return the number of documents in the index."""
    answer = httpx.get(f"{flow.http}/v1/index", headers={"authorization": f"token {token}"}, timeout=60)
    return int(answer.json()["documents"])


def main() -> int:
    """Attack, print what was seen, and return 1 where a bound is passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="of the names of attacks; none takes all")
    words = parser.parse_args().words
    chosen = {name: act for name, act in attacks().items() if not words or any(word in name for word in words)}
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        file = TokenFile(workspace)
        admin, token = file.create("admin", "admin"), file.create("reader", "read")
        with RunningFlow(workspace) as flow:
            documents = [{"id": str(number), "text": f"garment {number}"} for number in range(DOCUMENTS)]
            stored = httpx.post(
                f"{flow.http}/v1/index",
                json={"documents": documents},
                headers={"authorization": f"token {admin}"},
                timeout=120,
            )
            stored.raise_for_status()
            worst = {}
            with siege_of(flow, token) as (siege, rest):
                for name, act in chosen.items():
                    for times in (1, 4):
                        siege.seconds, siege.peaks = 0.0, {}
                        threads = [threading.Thread(target=act, args=(siege,)) for _ in range(times)]
                        started = time.perf_counter()
                        for thread in threads:
                            thread.start()
                        for thread in threads:
                            thread.join()
                        took = time.perf_counter() - started
                        time.sleep(1)
                        growth = max((peak - rest.get(pid, peak) for pid, peak in siege.peaks.items()), default=0.0)
                        worst[f"{name} x{times}"] = (siege.seconds, growth)
                        print(
                            f"{name:40} x{times} {took:6.1f} s  honest {siege.seconds:5.2f} s  +{growth:5.0f} MB",
                            flush=True,
                        )
                time.sleep(30)
                kept = max(now - rest.get(pid, now) for pid, now in siege.memory().items())
            found = {
                "worst_stall_s": round(max(stall for stall, _ in worst.values()), 2),
                "worst_growth_mb": round(max(growth for _, growth in worst.values())),
                "kept_mb": round(kept),
                "entered": siege.entered,
                "lost": DOCUMENTS - indexed(flow, token),
            }
    print(json.dumps(found))
    bad = found["worst_stall_s"] > STALL_S or found["worst_growth_mb"] > GROWTH_MB or found["entered"] or found["lost"]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
