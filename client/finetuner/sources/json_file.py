"""Reads the JSON file of a set, and keeps only the keys that are used."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..exceptions import InvalidInput

MAX_BYTES = 2**30  # the largest of Karpathy's, COCO's, has 144 MB


def read_json(path: Path, kept: Collection[str]) -> Any:
    """Return the content of a JSON file.

    Args:
        path: of the file, UTF-8, at most MAX_BYTES.
        kept: keys of its objects to keep. The others are dropped while reading. The tokens of the captions, for
            example, take several times the memory of the rest.

    Raises:
        InvalidInput: no file, too large, or not JSON.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InvalidInput(f"{path.name} must have at most {MAX_BYTES} bytes. Got {size}. Check the file.")
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file, object_hook=lambda found: {key: found[key] for key in found if key in kept})
    except OSError as error:
        raise InvalidInput(
            f"captions must be in {str(path)!r}. Got no readable file ({error.strerror}). Copy it there."
        ) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{str(path)!r} must be JSON. Got an error: {error!s:.120}. Fetch it again.") from error
