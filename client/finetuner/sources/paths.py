"""Expands the paths that a user gives: braces, wildcards, the home folder."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..exceptions import DatasetNotFound, InvalidInput

REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|pipe:")
"""An address; those of known places are fetched before, see `places.address`."""
BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
MAX_SHARDS = 100_000

PathName = str | os.PathLike[str]


def data_not_found(name: object) -> DatasetNotFound:
    """Return the error for a name that is neither local data nor a dataset in the Flow."""
    return DatasetNotFound(
        f"data must be documents, a file, a folder or the name of a dataset. Got {name!r}, which is neither a file or "
        f"folder (relative to {str(Path.cwd())!r}) nor a dataset in the Flow. Correct it, or push the dataset."
    )


def expanded(source: PathName | Sequence[PathName]) -> list[str]:
    """Return existing paths. Braces, then wildcards, are expanded and sorted; an existing path is not expanded."""
    given = [source] if isinstance(source, str | os.PathLike) else source
    paths: list[str] = []
    for name in [os.path.expanduser(os.fspath(path)) for path in given]:  # noqa: PTH111 (addresses are among them)
        if REMOTE.match(name):
            raise InvalidInput(f"data must be local. Got {name!r:.120}. Download it first, and pass the path.")
        if os.path.exists(name):  # noqa: PTH110 (never raises)
            paths.append(name)
            continue
        for pattern in without_braces(name):
            found = sorted(glob.iglob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207
            if not found or not os.path.exists(found[0]):  # noqa: PTH110
                raise data_not_found(pattern)
            paths.extend(found)
    return paths


def without_braces(pattern: str) -> list[str]:
    """Return every expansion of `{000..012}` and `{a,b}`, in order."""
    done, waiting = [], [pattern]
    while waiting:
        text = waiting.pop()
        match = BRACES.search(text)
        if match is None:
            done.append(text)
        else:
            first, last, choices = match.groups()
            if first is not None and int(last) - int(first) >= MAX_SHARDS:
                raise InvalidInput(
                    f"braces must expand to at most {MAX_SHARDS} files. Got {pattern!r:.120}. Split them."
                )
            values = choices.split(",") if first is None else _padded(first, last)
            waiting.extend(text[: match.start()] + value + text[match.end() :] for value in reversed(values))
        if len(done) + len(waiting) > MAX_SHARDS:
            raise InvalidInput(f"braces must expand to at most {MAX_SHARDS} files. Got {pattern!r:.120}. Split them.")
    return done


def _padded(first: str, last: str) -> list[str]:
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
