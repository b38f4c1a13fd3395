"""Clients that cost little beside a server: HTTP over an asyncio stream, gRPC with messages that are made once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from docarray import Document, DocumentArray
from jina.types.request.data import DataRequest

from finetuner.contract.wire import ERROR_TAG

Send = Callable[[int], Awaitable[None]]
"""Sends the request of a number, and returns once it is answered. Another answer than the right one is an error."""


@asynccontextmanager
async def by_http(port: int, path: str, bodies: Sequence[Any], token: str = "") -> AsyncIterator[Send]:
    """Yield the sender of one connection, which is kept alive."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: token {token}\r\nContent-Length: " if token else "Content-Length: "
    contents = [json.dumps(body).encode() for body in bodies]
    requests = [f"{head}{len(content)}\r\n\r\n".encode() + content for content in contents]

    async def send(number: int) -> None:
        writer.write(requests[number % len(requests)])
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        content = await reader.readexactly(length)
        if b" 200 " not in answer[:13] or b'"error"' in content:
            raise ConnectionError(f"a request must be answered. Got {content[:200]!r}.")

    try:
        yield send
    finally:
        writer.close()


@asynccontextmanager
async def by_grpc(port: int, endpoint: str, documents: Sequence[Sequence[Document]]) -> AsyncIterator[Send]:
    """Yield the sender of one channel to a Flow, with calls as `jina.Client` makes them."""
    contents = []
    for each in documents:
        request = DataRequest()
        request.header.exec_endpoint = endpoint
        request.data.docs = DocumentArray(each)
        contents.append(request.proto_with_data.SerializeToString())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.stream_stream("/jina.JinaRPC/Call")

        async def send(number: int) -> None:
            async def one() -> AsyncIterator[bytes]:
                yield contents[number % len(contents)]

            answers = [answer async for answer in call(one())]
            if len(answers) != 1 or ERROR_TAG.encode() in answers[0] or len(answers[0]) < 500:
                raise ConnectionError(f"a request must be answered. Got {answers!r:.200}.")

        yield send


@asynccontextmanager
async def by_bare_grpc(port: int, kind: str, contents: Sequence[bytes]) -> AsyncIterator[Send]:
    """Yield the sender of one channel to bare_servers.py."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(f"/bare/{kind}")

        async def send(number: int) -> None:
            if len(await call(contents[number % len(contents)])) < 4:
                raise ConnectionError("a request must be answered. Got no vector.")

        yield send
