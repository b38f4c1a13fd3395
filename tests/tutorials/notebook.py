"""Runs the code cells of one tutorial, in order and in one namespace, as a reader would."""

from __future__ import annotations

import contextlib
import io
import re
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jina import Flow

from finetuner.api.run import Run
from finetuner.exceptions import RunInProgressError

from .cells import cells, runnable

PRELUDE = "from docarray import Document, DocumentArray"  # what one page uses and does not import
URL = re.compile(r"https?://[^/'\"\s]+/")
DEPLOY = re.compile(r"^!jcloud deploy (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What became of a cell."""

    cell: int
    """Its number, from 1."""
    error: str
    """One line, '' where it ran."""
    seconds: float
    """With the wait for a run, where there was one."""
    printed: str
    """Its output."""


def run_cells(name: str, text: str, images: str) -> Iterator[Outcome]:
    """Run every cell and yield what became of it; cells that only speak to JCloud are replaced, see `LocalCloud`.

    Args:
        name: of the tutorial, for tracebacks.
        text: of the tutorial.
        images: address that takes the place of those of the web.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(PRELUDE, names)
    with LocalCloud() as cloud:
        for number, cell in enumerate(cells(text), 1):
            code, started, printed = URL.sub(images, runnable(cell)), time.perf_counter(), io.StringIO()
            try:
                with contextlib.redirect_stdout(printed):
                    if "jcloud" in cell:
                        cloud.replace(cell, names)
                        continue
                    if not code.strip():
                        continue
                    _execute(compile(code, f"{name}:{number}", "exec"), names)
                error = ""
            except Exception as failure:
                error = " ".join("".join(traceback.format_exception_only(failure)).split())
            yield Outcome(number, error, time.perf_counter() - started, printed.getvalue())


def _execute(code: Any, names: dict[str, Any]) -> None:
    """Run a cell; where it comes before its run has ended, wait, as a reader would, and run it once more."""
    try:
        exec(code, names)
    except RunInProgressError:
        for run in [value for value in names.values() if isinstance(value, Run)]:
            run.wait()
        exec(code, names)


class LocalCloud:
    """JCloud on this machine: a Flow's YAML, written by an earlier cell, runs here, on a port that Jina chooses.

    `!jcloud deploy FILE` starts it, the cell that asks JCloud for the address gets `host` set, `!jcloud remove` or the
    tutorial's end stops it.
    """

    def __init__(self) -> None:
        self._flow: Flow | None = None

    def replace(self, cell: str, names: dict[str, Any]) -> None:
        """Do what a cell asks JCloud for."""
        if deploy := DEPLOY.search(cell):
            self.stop()
            self._flow = Flow.load_config(deploy[1])
            self._flow.start()
        elif "!jcloud remove" in cell:
            self.stop()
        elif self._flow is not None:
            names["host"] = f"grpc://127.0.0.1:{self._flow.port}"

    def stop(self) -> None:
        """Stop what runs."""
        flow, self._flow = self._flow, None
        if flow is not None:
            flow.close()

    def __enter__(self) -> LocalCloud:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
