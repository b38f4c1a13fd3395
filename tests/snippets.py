"""The code in README.md, CONTRIBUTING.md and the pages of docs/."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "tutorials")
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
EXPECTED = re.compile(r"print\(.*\)  # ([\d(\[A-Z].*)$", re.MULTILINE)
"""A comment behind `print` that begins with a number, a bracket or a capital is the line that it prints."""


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    return [textwrap.dedent(code) for _, kind, code in FENCE.findall(path.read_text()) if kind == language]


def python(path: Path) -> str:
    """Return the Python of a page, which runs from top to bottom."""
    return "\n".join(blocks(path, "python"))


def commands(path: Path) -> list[list[str]]:
    """Return the words of each shell command, those in the text among them; without assignments before a command."""
    text = path.read_text()
    lines = [line for block in blocks(path, "bash") for line in block.replace("\\\n", " ").splitlines()]
    prose = FENCE.sub("", text)
    lines += [code for code in INLINE.findall(prose) if re.match(r"(finetuner|make) [a-z]", code)]
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            command, words = words[:end], words[end + 1 :]
            while command and re.match(r"[A-Z_]+=", command[0]):
                command = command[1:]
            found.append(command)
    return [command for command in found if command]
