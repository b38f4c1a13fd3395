"""JSON answers without NaN and infinity, which strict JSON does not allow."""

from __future__ import annotations

import json
import math
from typing import Any

from fastapi import Response


def answer(value: Any, status: int = 200) -> Response:
    """Return a JSON response. NaN and infinities become null."""
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), allow_nan=False)
    return Response(text, status, media_type="application/json")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
