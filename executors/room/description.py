"""What a room says of itself to administrators: its process, its versions, its settings and its last lines of log."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections import deque
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from finetuner.executors.room.jina_internals import filter_log

MOST_LINES = 200
MOST_LETTERS = 500  # of a line
PACKAGES = ("torch", "transformers", "open_clip_torch", "timm", "onnxruntime", "qdrant-client", "jina", "docarray")
HIDDEN = re.compile(r"token|secret|password|passwd|(^|_)key", re.IGNORECASE)
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")

_lines: deque[str] = deque(maxlen=MOST_LINES)
_started = time.time()


def keep_lines() -> None:
    """Keep the last lines of this process's log in memory."""

    def keep(record: logging.LogRecord) -> bool:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.created))
        text = CREDENTIALS.sub("***@", record.getMessage()[:MOST_LETTERS])
        _lines.append(f"{moment} {record.levelname} {text}")
        return True

    filter_log(keep)


def describe(settings: Any) -> dict[str, Any]:
    """Return {'started_at', 'memory' (bytes, None if not known), 'versions', 'settings', 'log'}.

    Args:
        settings: the room's dataclass. A credential is shown as '***'.
    """
    return {
        "started_at": _started,
        "memory": _memory(),
        "versions": {"python": sys.version.split()[0], **_versions()},
        "settings": _shown(settings),
        "log": [*_lines],
    }


def _versions() -> dict[str, str]:
    """Return the versions of the packages that this process has imported."""
    found = {}
    for package in PACKAGES:
        if package.replace("-", "_").replace("_torch", "") in sys.modules:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
    return found


def _memory() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _shown(settings: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            shown |= _shown(value)
        elif HIDDEN.search(field.name) and value:
            shown[field.name] = "***"
        else:
            plain = value if isinstance(value, bool | int | float | None) else str(value)
            shown[field.name] = CREDENTIALS.sub("***@", plain) if isinstance(plain, str) else plain
    return shown
