"""Turns a whole upload into documents, in a process of its own, and reads them back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetuner.contract.environment import without_secrets
from finetuner.exceptions import FinetunerError, InvalidInput, by_name
from finetuner.flow import prepared
from finetuner.workspace.folder import DAMAGE, write_atomically

if TYPE_CHECKING:
    from docarray import Document

CONVERTER = "finetuner.sources.uploaded"
SECONDS = 1500
REQUEST, DOCUMENTS, PREVIEW = "request.json", "documents", "preview.json"
LENGTH = 8  # bytes before each document, see the converter
TASKS = {"pairs": "text-to-image", "labelled": "image-to-image"}
"""Kind of an upload -> task of its data."""
FIRST = 20
"""Documents that a preview shows."""


def convert(
    file: Path, folder: Path, kind: str, columns: dict[str, str] | None, on_error: str, first: int = 0
) -> dict[str, Any]:
    """Write the documents of a file to `folder`.

    Args:
        file: the whole upload.
        folder: receives DOCUMENTS.
        kind: one of TASKS.
        columns: content -> name of its column; None takes well-known names.
        on_error: 'raise' or 'skip'.
        first: number of documents to show.

    Returns:
        What the converter says: 'left_out', 'notes', 'documents', 'kinds' and 'first', see `sources.uploaded`.

    Raises:
        InvalidInput: no data, or a file that takes too long or too much memory.
    """
    asked = {
        "file": str(file),
        "task": TASKS[kind],
        "columns": columns,
        "on_error": on_error,
        "target": str(folder / DOCUMENTS),
        "first": first,
    }
    (folder / PREVIEW).unlink(missing_ok=True)  # of other documents
    (folder / REQUEST).write_text(json.dumps(asked))
    environment = without_secrets() | {"TMPDIR": str(file.parent)}
    try:
        done = prepared.run(CONVERTER, [str(folder / REQUEST)], environment, SECONDS)
        answer = json.loads((folder / f"{DOCUMENTS}.json").read_text())
    except (subprocess.TimeoutExpired, OSError, ValueError) as error:
        raise InvalidInput(
            f"file must be readable within {SECONDS} s and its memory. Got no answer of the process that reads it "
            f"({type(error).__name__}). Split the file."
        ) from None
    if "type" in answer:
        found = by_name(answer["type"])
        raise found(answer["message"]) if issubclass(found, FinetunerError) else InvalidInput(answer["message"])
    if done.returncode:
        raise InvalidInput(f"file must be readable. Its reader ended with code {done.returncode}. Split the file.")
    return dict(answer)


def keep_preview(folder: Path, asked: dict[str, Any], answer: dict[str, Any]) -> None:
    """Keep the documents of a preview, with what was asked and answered, so that they are not made twice."""
    write_atomically(folder / PREVIEW, json.dumps({"asked": asked, "answer": answer}).encode())


def kept_preview(folder: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Return the answer of a preview with the same arguments, None for none."""
    with suppress(OSError, *DAMAGE):
        kept = json.loads((folder / PREVIEW).read_bytes())
        if kept["asked"] == asked and (folder / DOCUMENTS).is_file():
            return dict(kept["answer"])
    return None


def converted(path: Path) -> Iterator[tuple[Document, int]]:
    """Yield the documents of a conversion, each with its size in bytes."""
    from docarray import Document

    with open(path, "rb") as file:
        while head := file.read(LENGTH):
            content = file.read(int.from_bytes(head, "big"))
            yield Document.from_bytes(content, protocol="protobuf"), len(content)
