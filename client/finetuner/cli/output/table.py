"""Tables on a terminal or in a pipe: aligned columns with whole values, since people copy ids out of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

GAP = "  "


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a header, one line each. A line that is wider than the terminal continues on its next line.

    Args:
        header: the columns' names.
        rows: a value for each column.
    """
    from rich.cells import cell_len  # some characters take two columns

    lines = [[one_line(value) for value in row] for row in (header, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        padded = [value + " " * (width - cell_len(value)) for value, width in zip(line, widths, strict=True)]
        shown = GAP.join(padded).rstrip()
        print(f"\x1b[1m{shown}\x1b[0m" if number == 0 and _has_colours() else shown)


def one_line(text: str, most: int | None = None) -> str:
    """Return a text as one line without control characters, which could change the terminal.

    Args:
        text: of any origin.
        most: characters to keep, None for all.
    """
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if most is None or len(line) <= most else line[: most - 1] + "…"


def _has_colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
