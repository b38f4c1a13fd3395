"""The code cells of a tutorial: fenced ones of a notebook's Markdown, or, in a page's plain text, what is Python."""

from __future__ import annotations

import ast
import re

FENCE = re.compile(r"^```python[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LONGEST = 40
"""Lines of one statement in plain text, at most."""


def cells(text: str) -> list[str]:
    """Return the code cells in order, without empty ones."""
    found = [match[1] for match in FENCE.finditer(text)]
    return [cell for cell in found or _in_plain_text(text) if cell.strip()]


def runnable(cell: str) -> str:
    """Return a cell without its shell lines (`!pip ...`)."""
    return "\n".join(line for line in cell.splitlines() if not line.lstrip().startswith("!"))


def _in_plain_text(text: str) -> list[str]:
    """Return the longest runs of lines that are Python and do something; prose rarely parses, and never calls."""
    lines, found, row = text.splitlines(), [], 0
    while row < len(lines):
        end = next((end for end in range(min(row + LONGEST, len(lines)), row, -1) if _is_code(lines[row:end])), row)
        if end > row:
            found.append("\n".join(lines[row:end]))
        row = max(end, row + 1)
    return found


def _is_code(lines: list[str]) -> bool:
    if not lines[0].strip():
        return False
    try:
        statements = ast.parse("\n".join(lines)).body
    except SyntaxError:
        return False
    return bool(statements) and all(_acts(statement) for statement in statements)


def _acts(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call)
    return isinstance(statement, ast.Import | ast.ImportFrom | ast.Assign | ast.For | ast.With | ast.FunctionDef)
