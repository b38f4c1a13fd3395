"""Progress bars, shown in terminals and notebooks only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar while the block runs.

    Args:
        description: text before the bar.
        total: number of steps of the full bar, None if unknown.

    Yields:
        A function that advances the bar by a number of steps.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = console.is_terminal or console.is_jupyter
    with Progress(*columns, console=console, disable=not shown) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.advance(task, done)
