"""The audit log: one line of JSON for each request that needs `write` or `admin`, refused ones included.

    {"time": "2026-11-21T06:45:30.123+00:00", "token": "ci", "role": "write", "transport": "http",
     "request": "POST /post", "endpoint": "/index", "documents": 3, "status": 200}

Two lines come once a minute: the wrong tokens of an address, and the refused requests of a token past 60.

    {"time": "...", "address": "203.0.113.7", "wrong_tokens": 1234}
    {"time": "...", "token": "ci", "refused": 1234}

The log holds no secrets, no content and no query strings. `token` is empty in a Flow without tokens. `request` is
empty for gRPC. `endpoint` is empty if the path in `request` already names it. `documents` is null if the number is
not known. A gRPC call has the status that HTTP would give it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetuner.workspace.tokens import PRIVATE

MAX_BYTES = 16 * 2**20
KEPT = 4  # older files; audit.jsonl.1 is the newest of them
MAX_TEXT = 200  # characters of a path


class Audit:
    """The audit log of a workspace. Several Flows may write into it.

    Args:
        root: the workspace folder; None for no log.
    """

    def __init__(self, root: Path | None) -> None:
        self._file = None if root is None else root / "audit.jsonl"

    def write(self, **fields: Any) -> None:
        """Append one line.

        Raises:
            OSError: the line cannot be written.
        """
        if self._file is None:
            return
        short = {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in fields.items()}
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **short})
        # Opening the file for each line follows a rotation by another Flow. One write with O_APPEND is atomic.
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE)
        try:
            os.write(descriptor, f"{line}\n".encode())
            full = os.fstat(descriptor).st_size >= MAX_BYTES
        finally:
            os.close(descriptor)
        if full:
            self._rotate(self._file)

    def _rotate(self, file: Path) -> None:
        names = [file, *(file.with_name(f"{file.name}.{number}") for number in range(1, KEPT + 1))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            with suppress(FileNotFoundError):
                os.replace(newer, older)
