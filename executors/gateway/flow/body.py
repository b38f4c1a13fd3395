"""HTTP request bodies: bounded reads, and strict JSON whose values protobuf can carry."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException, Request

from finetuner.contract.values import EXACT, exact, whole_text
from finetuner.contract.wire import MAX_MESSAGE_BYTES
from finetuner.exceptions import InvalidInput

MAX_DEPTH = 24  # of lists and objects; protobuf reads 100 levels, and one of JSON's takes up to three of them
STRUCTURE = re.compile(rb'[\[{,]|"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # possessive: linear on any bytes
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
DRAIN_BYTES, DRAIN_SECONDS = 256 * 2**20, 20.0


@dataclass(frozen=True)
class Limits:
    """Bounds of a JSON text. Two bytes of it may become a hundred in memory."""

    containers: int
    """Lists and objects."""
    items: int
    """Commas between their items."""

    def check(self, body: bytes) -> None:
        """Refuse a text with more containers or items, before it is parsed.

        Raises:
            InvalidInput
        """
        if body.count(b"[") + body.count(b"{") <= self.containers and body.count(b",") <= self.items:
            return
        containers = commas = strings = 0
        for found in STRUCTURE.finditer(body):
            match body[found.start()]:
                case 0x2C:
                    commas += 1
                case 0x22:
                    strings += 1
                case _:
                    containers += 1
            if containers > self.containers or commas > self.items:
                raise InvalidInput(
                    f"The body may hold {self.containers} lists and objects, and {self.items} items in them. Got more. "
                    "Send less per request."
                )
            if strings > 2 * (containers + commas) + 1:
                raise InvalidInput(f"The body must be JSON. Got strings without commas between them: {body[:40]!r}.")


DOCUMENTS = Limits(2**16, 2**20)
CONTENTS = Limits(2**16, 2**18)  # of documents without embeddings and tensors
CONTROL = Limits(2**12, 2**16)


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


def parse_json(body: bytes, limits: Limits = DOCUMENTS) -> Any:
    """Return the value of a UTF-8 JSON text.

    Raises:
        InvalidInput: not JSON, more than its limits, a key twice in one object, more than MAX_DEPTH levels, or a value
            that protobuf cannot carry: a number that is not finite, a whole number from 2**53 on, or half of a
            surrogate pair. The message has its path and its document's id.
    """
    limits.check(body)
    numbers = _Numbers()
    try:
        value = json.loads(
            body,
            parse_float=numbers.real,
            parse_constant=numbers.real,
            parse_int=numbers.whole,
            object_pairs_hook=_unique,
        )
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"The body must be JSON. Got {body[:40]!r}: {error}.") from None
    if _deeper(value, MAX_DEPTH):
        raise InvalidInput(f"The body must have at most {MAX_DEPTH} levels of lists and objects. Got more.")
    if numbers.odd or SURROGATE.search(body):
        _check(value, "")
    return value


class _Numbers:
    """Reads numbers, and takes note of odd ones. Their place in the body is looked up later."""

    odd = False

    def real(self, number: str) -> float:
        """Return a number. Python accepts 1e999 and NaN silently, and protobuf fails on them much later."""
        value = float(number)
        self.odd = self.odd or not math.isfinite(value)
        return value

    def whole(self, number: str) -> int:
        """Return a whole number."""
        value = int(number)
        self.odd = self.odd or abs(value) >= EXACT
        return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Of two values under one key, Python would silently drop the first."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r:.80} comes twice in one object")
        found[key] = value
    return found


def _check(value: Any, path: str, document: str = "") -> None:
    """Refuse values that protobuf cannot carry, by their path in the body and the id of their document."""
    name = f"{path or 'the body'}{document}"
    match value:
        case str():
            whole_text(value, name)
        case bool():
            pass
        case int():
            exact(value, name)
        case float():
            exact(value if not math.isfinite(value) else 0.0, name)
        case list():
            for position, inner in enumerate(value):
                _check(inner, f"{path}[{position}]", document)
        case dict():
            if not document and isinstance(value.get("id"), str):
                document = f" of document {value['id']!r:.200}"
            for key, inner in value.items():
                whole_text(key, f"a key of {name}")
                _check(inner, f"{path}.{key:.80}".removeprefix("."), document)


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
