"""HTTP request bodies: bounded reads, and strict JSON whose values protobuf can carry."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from fastapi import HTTPException, Request

from finetuner.contract.wire import MAX_MESSAGE_BYTES
from finetuner.exceptions import InvalidInput

MAX_DEPTH = 24  # of lists and objects; protobuf reads 100 levels, and one of JSON's takes up to three of them
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
DRAIN_BYTES, DRAIN_SECONDS = 256 * 2**20, 20.0


async def read_body(request: Request, most: int = MAX_MESSAGE_BYTES) -> bytes:
    """Return the body of a request; hold at most `most` bytes of it.

    Raises:
        HTTPException: 413 for a larger body.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(
                413,
                f"A body may have {most} bytes. Got more. Send less per request.",
                headers={"Connection": "close"},  # the rest of the body stays unread
            )
    return bytes(body)


async def drain(body: AsyncIterator[bytes]) -> None:
    """Read and drop the rest of a body, up to DRAIN_BYTES and DRAIN_SECONDS.

    A client whose connection breaks while it writes never reads the answer.
    """
    left = DRAIN_BYTES
    with suppress(Exception):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in body:
                left -= len(chunk)
                if left < 0:
                    return


def parse_json(body: bytes) -> Any:
    """Return the value of a UTF-8 JSON text.

    Raises:
        InvalidInput: not JSON, a number that is not finite, half of a surrogate pair, or more than MAX_DEPTH levels.
    """
    try:
        value = json.loads(body, parse_float=_finite, parse_constant=_finite, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"The body must be JSON. Got {body[:40]!r}: {error}.") from None
    if _deeper(value, MAX_DEPTH):
        raise InvalidInput(f"The body must have at most {MAX_DEPTH} levels of lists and objects. Got more.")
    if SURROGATE.search(body):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"The body must hold whole characters. Got half of one: {error}.") from None
    return value


def _finite(number: str) -> float:
    """Return the number. Python accepts 1e999 and NaN silently, and protobuf fails on them much later."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:20]} is not a finite number")
    return value


def _whole(number: str) -> int:
    value = int(number)
    if abs(value) >= 2**1023:  # protobuf carries doubles
        raise ValueError(f"{number[:20]}... is too large for protobuf")
    return value


def _deeper(value: Any, most: int) -> bool:
    containers = [value]
    for _ in range(most):
        containers = [
            inner
            for each in containers
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not containers:
            return False
    return True
