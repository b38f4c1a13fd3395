"""The small fields of hub clients' requests."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request

from finetuner.exceptions import InvalidInput

from ..artifacts.multipart import MAX_FIELD_BYTES, MAX_FIELDS
from ..flow.body import CONTROL, parse_json


async def read_fields(request: Request) -> dict[str, Any]:
    """Return the fields of the query and of the body, which is JSON or URL-encoded.

    Raises:
        InvalidInput: another kind of body, or more than MAX_FIELD_BYTES.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FIELD_BYTES:
            raise InvalidInput(f"body must have at most {MAX_FIELD_BYTES} bytes. Got more. Send fewer fields.")
    fields: dict[str, Any] = dict(request.query_params)
    try:
        if request.headers.get("content-type", "").startswith("application/json"):
            given = parse_json(bytes(body), CONTROL) if body.strip() else {}
            if not isinstance(given, dict):
                raise InvalidInput(f"body must be an object of fields. Got {type(given).__name__}.")
            return fields | given
        return fields | dict(parse_qsl(body.decode(), max_num_fields=MAX_FIELDS))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"body must be JSON or URL-encoded fields. Got {bytes(body[:40])!r}: {error}.") from None
