"""Work of the client that a request asks for, in a process of its own that reaches the rooms through the gateway."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from docarray.proto.docarray_pb2 import DocumentArrayProto
from fastapi import FastAPI

from finetuner.contract import wire
from finetuner.contract.environment import without_secrets
from finetuner.exceptions import FinetunerError, FinetunerServerError, Forbidden, ResourceExhausted, by_name
from finetuner.transport.over_pipe import read_frame, write_frame

from ...flow.rooms import Rooms

MODULE = "finetuner.api.task"
SECONDS = 1500.0

READS = {wire.RUNS_GET, wire.RUNS_LIST, wire.RUNS_STATUS, wire.RUNS_LOGS, wire.RUNS_METRICS, wire.DATASETS_LIST}
ENDPOINTS: dict[str, frozenset[str]] = {
    "begin_round": frozenset(
        {
            *READS,
            wire.STATUS,
            wire.FEEDBACK_LIST,
            wire.FEEDBACK_DOCUMENTS,
            wire.DATASETS_PUSH,
            wire.FIT,
            wire.ARTIFACTS_LIST,
            wire.ARTIFACTS_PULL,
            wire.EXPERIMENTS_CREATE,
            wire.DATASETS_PULL,
        }
    ),
    "end_round": frozenset({*READS, wire.ARTIFACTS_PROMOTE, wire.RUNS_EDIT}),
    "score_queries": frozenset({wire.SEARCH, wire.FILTER, wire.STATUS}),
}
"""What each task may ask of the rooms. Its route checks the caller's role."""


class Tasks:
    """Runs one task at a time.

    Args:
        rooms: the Flow's rooms.
        module: of the process.
        seconds: after which the process is killed.
    """

    def __init__(self, rooms: Rooms, module: str = MODULE, seconds: float = SECONDS) -> None:
        self._rooms, self._module, self._seconds = rooms, module, seconds
        self._turn = asyncio.Lock()

    async def run(self, task: str, arguments: Mapping[str, Any]) -> Any:
        """Return the result of a task.

        Raises:
            ResourceExhausted: another task runs.
            FinetunerError: the error of the task.
        """
        if self._turn.locked():
            raise ResourceExhausted("one such request is answered at a time. Another one is. Try again later.")
        async with self._turn:
            loop = asyncio.get_running_loop()
            return await asyncio.to_thread(self._run, loop, task, arguments)

    def _run(self, loop: asyncio.AbstractEventLoop, task: str, arguments: Mapping[str, Any]) -> Any:
        process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=without_secrets(),
        )
        stop = threading.Timer(self._seconds, process.kill)
        stop.start()
        assert process.stdin
        assert process.stdout
        try:
            write_frame(process.stdin, {"task": task, "arguments": arguments})
            while True:
                asked, content = read_frame(process.stdout, wire.MAX_MESSAGE_BYTES)
                if "endpoint" not in asked:
                    break
                answered = asyncio.run_coroutine_threadsafe(self._answer(task, asked, content), loop).result()
                write_frame(process.stdin, *answered)
        except (FinetunerError, OSError, ValueError) as error:
            raise FinetunerServerError(
                f"the process of this request must answer within {self._seconds:g} s and its memory. It ended without. "
                f"Ask for less, or call it from Python.",
                str(error),
            ) from None
        finally:
            stop.cancel()
            process.kill()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe.close()
            process.wait()
        if "type" in asked:
            raise by_name(asked["type"])(asked["message"])
        return asked["result"]

    async def _answer(self, task: str, asked: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        """Return the frame of an answer to a request of a task."""
        try:
            if asked["endpoint"] not in ENDPOINTS[task]:
                raise Forbidden(f"endpoint must be one that the task {task} needs. Got {asked['endpoint']!r:.80}.")
            sent = DocumentArrayProto.FromString(content).docs
            messages = await self._rooms.post(asked["endpoint"], sent, **asked["parameters"])
            return {}, DocumentArrayProto(docs=messages).SerializeToString()
        except FinetunerError as error:
            return {"type": type(error).__name__, "message": str(error)}, b""


def tasks_of(app: FastAPI) -> Tasks:
    """Return the tasks of an app."""
    if not hasattr(app.state, "tasks"):
        app.state.tasks = Tasks(app.state.rooms)
    tasks: Tasks = app.state.tasks
    return tasks
