"""A set's JSON file in memory, without the parts of it that nobody reads."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ...exceptions import InvalidInput

MAX_BYTES = 2**30  # COCO's, the largest of Karpathy's, has 144 MB


def read_json(path: Path, kept: Collection[str]) -> Any:
    """Return what a JSON file holds.

    Args:
        path: of the file, UTF-8, at most MAX_BYTES.
        kept: keys of its objects; all others are dropped as they are read, such as the tokens of each caption,
            which would take several times the memory of the rest.

    Raises:
        InvalidInput: no such file, too large, or no JSON.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InvalidInput(f"{path.name} must have at most {MAX_BYTES} bytes. Got {size}. Is it the right file?")
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file, object_hook=lambda found: {key: found[key] for key in found if key in kept})
    except OSError as error:
        raise InvalidInput(
            f"captions must lie in {str(path)!r}. Got no readable file there ({error.strerror}). Put it there."
        ) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{str(path)!r} must be JSON. Got an error: {error!s:.120}. Fetch it again.") from error
