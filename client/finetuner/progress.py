"""Progress of whatever takes more than seconds: bars in terminals and notebooks, lines where the command line runs.

Lines come on stderr, for a pipe or a log file. Scripts that use the library get none.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST, EVERY = 2.0, 10.0  # seconds until the first line, and between two

_lines = False


def show_lines() -> None:
    """Print lines where there is no terminal for a bar; for the command line."""
    global _lines
    _lines = True


@contextmanager
def bar(description: str, total: int | None, *, in_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a progress bar while the block runs.

    Args:
        description: text before the bar.
        total: number of steps of the full bar, None if unknown.
        in_bytes: whether the steps are bytes.

    Yields:
        A function that advances the bar by a number of steps.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        with _reported(description, total, in_bytes) as advance:
            yield advance
        return
    count = DownloadColumn() if in_bytes else MofNCompleteColumn()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn(), console=console
    ) as shown:
        task = shown.add_task(description, total=total)
        yield lambda done: shown.advance(task, done)


@contextmanager
def waiting(description: str) -> Iterator[None]:
    """Show that one long step is under way, and for how long."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        with _reported(description, None, False):
            yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        shown.add_task(description, total=None)
        yield


@contextmanager
def _reported(description: str, total: int | None, in_bytes: bool) -> Iterator[Callable[[int], None]]:
    """Print the number of steps, and the seconds, now and then. A thread does, since one step may take long."""
    done, started, ended = 0, time.monotonic(), threading.Event()

    def advance(steps: int) -> None:
        nonlocal done
        done += steps

    def report() -> None:
        seconds = FIRST
        while not ended.wait(seconds):
            seconds = EVERY
            passed = f"{time.monotonic() - started:.0f} s"
            print(f"{description}: {_count(done, total, in_bytes)}{passed}", file=sys.stderr, flush=True)

    if not _lines:
        yield advance
        return
    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield advance
    finally:
        ended.set()
        reporter.join()


def _count(done: int, total: int | None, in_bytes: bool) -> str:
    """Return 'DONE of TOTAL, ', '' if nothing is known."""
    if not done and total is None:
        return ""
    unit, size = (" MB", 1e6) if in_bytes else ("", 1)
    shown = [f"{number / size:.1f}" if in_bytes else str(number) for number in (done, total) if number is not None]
    return " of ".join(shown) + f"{unit}, "
