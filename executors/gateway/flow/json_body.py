"""Bodies of HTTP requests: read within bounds, as JSON that protobuf can carry on."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from fastapi import HTTPException, Request

from finetuner.contract.wire import MAX_MESSAGE_BYTES
from finetuner.exceptions import InvalidInput

MAX_DEPTH = 24  # of lists and objects; protobuf reads 100 levels, and one of ours is up to three of its
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


async def read_body(request: Request, most: int = MAX_MESSAGE_BYTES) -> bytes:
    """Return the body, without ever holding more of it than `most` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(
                413,
                f"A body may have {most} bytes. Got more. Send less in a request.",
                headers={"Connection": "close"},  # the rest of the body is not read
            )
    return bytes(body)


def parse_json(body: bytes) -> Any:
    """Return what a UTF-8 JSON text holds.

    Raises:
        InvalidInput: no JSON, a number that is not finite, half a character, or more than MAX_DEPTH levels.
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
            raise InvalidInput(f"The body holds a value that cannot be sent on: {error}.") from None
    return value


def _finite(number: str) -> float:
    """Return the number; Python reads 1e999 and NaN without a word, and protobuf fails on them much later."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:20]} is no finite number")
    return value


def _whole(number: str) -> int:
    value = int(number)
    if abs(value) >= 2**1023:  # protobuf carries doubles
        raise ValueError(f"{number[:20]}... is no number that protobuf can carry")
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
