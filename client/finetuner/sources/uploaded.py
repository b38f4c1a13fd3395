"""Reads one uploaded file in a process of its own, whose memory and time are bounded, for a server.

A server parses no caller's CSV, parquet or archive in its own process. This one reads nothing but the file: images lie
in it, and paths and addresses in its rows are refused.

python -m finetuner.sources.uploaded REQUEST, a path of JSON: see `main`
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import resource
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..documents.content import kind_of
from ..documents.thumbnails import shrink
from ..exceptions import FinetunerError, InvalidInput
from . import kinds
from .tables.csv_file import CSVOptions

if TYPE_CHECKING:
    from docarray import Document

SECONDS = 1500
MEMORY = 4 * 2**30  # bytes
NICE = 10
REFUSED = 3  # exit code
MAX_DOCUMENTS = 1_000_000
KEPT_FREE = 2**30
"""Bytes of the disk that stay free."""
LENGTH = 8  # bytes before each document
FEW = 20


def main(request: Path) -> int:
    """Convert a file within the bounds; return the exit code.

    Args:
        request: JSON of `file`, `task`, `columns` (or null), `on_error`, `first`, and `target`. `target` receives the
            documents, each with its length before it. Then `target` with '.json' receives {'left_out': the warnings,
            'notes': how columns were read, 'documents': their number, 'kinds': kind -> number, 'first': the first
            documents with thumbnails, as /v1 shows them} or {'type', 'message'}.
    """
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    asked = json.loads(request.read_text())
    answer = Path(f"{asked['target']}.json")
    folder = Path(asked["file"]).parent
    tempfile.tempdir = str(folder)
    notes = _Notes()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            counts, first = _convert(asked, folder)
        found = [_without(folder, str(each.message)) for each in caught[:FEW] if each.category is UserWarning]
        read = [_without(folder, line) for line in notes.lines]
        described: dict[str, Any] = {
            "left_out": found,
            "notes": read,
            "documents": counts.total(),
            "kinds": dict(counts),
        }
        described["first"] = [_shown(document) for document in first]
        answer.write_text(json.dumps(described))
    except (FinetunerError, MemoryError) as error:
        text = str(error) or f"data must be readable within {MEMORY} bytes of memory. Got more. Split the file."
        name = type(error).__name__ if isinstance(error, FinetunerError) else InvalidInput.__name__
        answer.write_text(json.dumps({"type": name, "message": _without(folder, text)}))
        return REFUSED
    return 0


class _Notes(logging.Handler):
    """Keeps what the readers say of the columns of a table."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        logger = logging.getLogger("finetuner")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < FEW:
            self.lines.append(record.getMessage())


def _convert(asked: dict[str, Any], folder: Path) -> tuple[Counter[str], list[Document]]:
    """Write the documents; return the number of each kind, and the first ones."""
    counts: Counter[str] = Counter()
    first: list[Document] = []
    left = shutil.disk_usage(folder).free - KEPT_FREE
    with open(asked["target"], "wb") as target:
        for number, document in enumerate(_documents(asked, folder)):
            content = document.to_bytes(protocol="protobuf")
            left -= len(content)
            if number >= MAX_DOCUMENTS or left < 0:
                raise InvalidInput(
                    f"upload must have at most {MAX_DOCUMENTS} documents, which fit on the disk. Got more. Split it."
                )
            target.write(len(content).to_bytes(LENGTH, "big"))
            target.write(content)
            counts[kind_of(document)] += 1
            if number < asked["first"]:
                first.append(document)
    return counts, first


def _shown(document: Document) -> dict[str, Any]:
    """Return a document as JSON, with a thumbnail in base64 for each image."""
    shrink(document)

    def content(part: Document) -> dict[str, str]:
        if part.text:
            return {"text": part.text}
        return {"blob": base64.b64encode(part.blob).decode()} if part.blob else {"uri": part.uri}

    shown: dict[str, Any] = {"id": document.id, "tags": dict(document.tags)}
    if document.chunks:
        return shown | {"chunks": [content(part) for part in document.chunks]}
    return shown | content(document)


def _documents(asked: dict[str, Any], folder: Path) -> Iterator[Document]:
    return kinds.documents_from(
        asked["file"],
        csv_options=CSVOptions(),
        columns=asked["columns"],
        task=asked["task"],
        on_error=asked["on_error"],
        alone=folder,
    )


def _without(folder: Path, text: str) -> str:
    """Return a message without the server's paths."""
    text = re.sub(rf"{re.escape(str(folder))}/(finetuner-[^/'\"\s]+/)?", "", text)
    return text.replace(str(folder), "the upload").replace(str(Path.cwd()), "the upload")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
