"""Health checks that run the models: a text and an image go through the encoders, and embeddings must come back.

An open socket proves little: a server whose inference thread hangs still has one. Other rooms, and each replica, only
have to answer.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import numpy as np
from docarray import Document, DocumentArray
from jina.types.request.data import DataRequest
from PIL import Image

from finetuner.contract.wire import ARTIFACT_TAG, ENCODE, error_of
from finetuner.exceptions import FinetunerError, FinetunerServerError

TIMEOUT = 10.0  # seconds

Ask = Callable[[DataRequest], Awaitable[DataRequest]]
States = Callable[[], Awaitable[dict[str, dict[str, int]]]]
Problems = Callable[[], Awaitable[list[str]]]


async def _none() -> list[str]:
    return []


@cache
def image() -> bytes:
    """Return a small PNG: a colour gradient of 32 x 32 pixels."""
    ramp = np.linspace(0, 255, 32, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(128)), axis=-1)  # (32, 32, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Health:
    """The state of both encoders, and of every room's replicas.

    Args:
        ask: sends a request through the Flow.
        states: returns for each room the number of `replicas`, and the number of those that are `up`.
        timeout: seconds in which an encoder must answer.
        problems: returns one sentence for each problem that the rooms know.
        ready: returns whether the Flow has answered its first requests; until then it is unavailable.
    """

    def __init__(
        self,
        ask: Ask,
        states: States,
        timeout: float = TIMEOUT,
        problems: Problems = _none,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._ask = ask
        self._states = states
        self._timeout = timeout
        self._problems = problems
        self._ready = ready
        self._running: asyncio.Task[dict[str, Any]] | None = None

    async def check(self) -> dict[str, Any]:
        """Return `{"status": "ok", "encoders": {...}, "rooms": {...}, "problems": []}`.

        The status is 'unavailable' if an encoder does not encode. It is 'degraded' if only another room or a replica is
        down, or if a room has problems, such as a damaged entry that it has set aside. Both come with a `detail`.

        Calls during a check share its result. Health needs no token, so callers must not be able to keep the models
        busy.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._check())
        return await asyncio.shield(self._running)

    async def _check(self) -> dict[str, Any]:
        text, vision, rooms, problems = await asyncio.gather(
            self._probe("text_encoder", lambda: Document(text="a canary")),
            self._probe("vision_encoder", lambda: Document(blob=image(), mime_type="image/png")),
            self._states(),
            self._problems(),
        )
        encoders = {"text": text, "vision": vision}
        broken = [f"{name} encoder: {state['error']}" for name, state in encoders.items() if "error" in state]
        down = [
            f"{name}: {room['replicas'] - room['up']} of {room['replicas']} down"
            for name, room in rooms.items()
            if room["up"] < room["replicas"]
        ]
        state: dict[str, Any] = {"status": "ok", "encoders": encoders, "rooms": rooms, "problems": problems}
        starting = [] if self._ready() else ["the Flow is starting: its first requests are not answered yet"]
        if starting or broken or down or problems:
            detail = "; ".join(starting + broken + down + problems)
            state |= {"status": "unavailable" if starting or broken else "degraded", "detail": detail}
        return state

    async def _probe(self, room: str, document: Callable[[], Document]) -> dict[str, Any]:
        started = time.perf_counter()
        request = DataRequest()
        request.header.exec_endpoint = ENCODE
        request.header.target_executor = room  # a neighbour that is down must not count against this room
        request.data.docs = DocumentArray([document()])
        try:
            response = await asyncio.wait_for(self._ask(request), self._timeout)
            vector, artifact = _vector(response.docs)
        except TimeoutError:
            return {"error": f"no answer within {self._timeout:g} s"}
        except FinetunerError as error:
            return {"error": str(error)}
        seconds = round(time.perf_counter() - started, 4)
        return {"artifact": artifact, "dim": int(vector.size), "seconds": seconds}


def _vector(documents: DocumentArray) -> tuple[np.ndarray[Any, Any], object]:
    """Return the canary's embedding, (dim,), and the artifact that made it.

    Raises:
        FinetunerError: no embedding, one with NaN or infinity, or the document's own error.
    """
    if len(documents) != 1:
        raise FinetunerServerError(f"expected one document back, got {len(documents)}")
    error = error_of(documents[0])
    if error is not None:
        raise error
    if documents[0].embedding is None:
        raise FinetunerServerError("the canary came back without an embedding")
    vector = np.asarray(documents[0].embedding)
    if not np.isfinite(vector).all():
        raise FinetunerServerError("the canary's embedding holds NaN or infinity")
    return vector, documents[0].tags.get(ARTIFACT_TAG)
