"""Displays example search results from before and after fine-tuning: tables on a terminal, images in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Results = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
"""{stage: {query: [{'match', 'relevant', 'image'}, ...]}}"""


def display(results: Results, k: int) -> None:
    """Show the first k matches of each query: as images in a notebook, otherwise as tables.

    Args:
        results: the return value of `Run.example_results`.
        k: number of matches for each query, at least 1.
    """
    if "ipykernel" in sys.modules:
        from IPython.display import HTML  # type: ignore[import-not-found]
        from IPython.display import display as show

        show(HTML(as_html(results, k)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for stage, queries in results.items():
        table = Table("Query", "Matches", show_lines=True)
        for query, matches in queries.items():
            lines = [f"{'✓' if match['relevant'] else ' '} {match['match']}" for match in matches[:k]]
            table.add_row(Text(query), Text("\n".join(lines)))  # Text: rich would read brackets in a str as markup
        console.print(f"Results {stage} fine-tuning:", soft_wrap=True)
        console.print(table)


def as_html(results: Results, k: int) -> str:
    """Return one HTML table for each stage with one row for each query; relevant matches have a green frame."""
    parts = []
    for stage, queries in results.items():
        rows = "".join(
            f"<tr><td>{escape(query)}</td>{''.join(_cell(match) for match in matches[:k])}</tr>"
            for query, matches in queries.items()
        )
        parts.append(f"<p>Results {escape(stage)} fine-tuning:</p><table>{rows}</table>")
    return "".join(parts)


def _cell(match: Mapping[str, Any]) -> str:
    name, frame = escape(str(match["match"])), "2px solid green" if match["relevant"] else "1px solid lightgrey"
    image = str(match["image"])
    shown = f'<img src="{escape(image)}" alt="{name}" title="{name}">' if image.startswith("data:image/") else name
    return f'<td style="border: {frame}">{shown}</td>'
