"""Who has changed what: a line of JSON for each request that needs `write` or `admin`, refused ones too.

    {"time": "2026-11-21T06:45:30.123+00:00", "token": "ci", "role": "write", "transport": "http",
     "request": "POST /post", "endpoint": "/index", "documents": 3, "status": 200}

No secrets, no content, no query strings. `token` is empty where the Flow has none, `request` over gRPC, `endpoint`
where the path of `request` says it all; `documents` is null where the number is not known. A call of gRPC has the
status that HTTP would give it.
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
KEPT = 4  # older files: audit.jsonl.1 is the newest of them
MAX_TEXT = 200  # characters of a path


class Audit:
    """The log of a workspace; several Flows may write into one.

    Args:
        root: the workspace's folder; None keeps no log.
    """

    def __init__(self, root: Path | None) -> None:
        self._file = None if root is None else root / "audit.jsonl"

    def write(self, **fields: Any) -> None:
        """Append one line.

        Raises:
            OSError: it cannot be written.
        """
        if self._file is None:
            return
        short = {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in fields.items()}
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **short})
        # opened each time, so that another Flow's rotation is seen; one write of an appending file is one piece
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
