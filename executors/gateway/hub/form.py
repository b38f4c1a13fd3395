"""Forms of hub clients: multipart forms, whose file is read while it arrives, and small fields."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from finetuner.exceptions import InvalidInput

from ..flow.body import CONTROL, parse_json

MAX_FIELD_BYTES = 2**20
MAX_FIELDS = 32
PIECE_BYTES = 16 * 2**10  # gzip expands a piece to at most 1,000 times its size, which is held in memory


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


class Multipart:
    """A multipart form whose part `file` is read piece by piece.

    Args:
        content_type: the request's header.

    Raises:
        InvalidInput: not a multipart form. Its methods raise it for a malformed or incomplete form.
    """

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidInput(
                f"upload must be multipart/form-data with a part 'file'. Got {content_type[:80]!r}. "
                f"Use DocumentArray.push."
            )
        self.fields: dict[str, str] = {}
        """The parts received so far, without `file`, which may come first."""
        self._name = ""
        self._header = self._headers = b""
        self._value = bytearray()
        self._file: list[bytes] = []
        self._ended = False
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header_name,
                "on_header_value": self._on_header_value,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    async def file_of(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the part `file` in pieces. `fields` is complete afterwards."""
        try:
            async for chunk in body:
                self._parser.write(chunk)
                pieces, self._file = self._file, []
                for piece in pieces:
                    for start in range(0, len(piece), PIECE_BYTES):
                        yield piece[start : start + PIECE_BYTES]
        except MultipartParseError as error:
            raise InvalidInput(f"upload must be a well-formed multipart form. Got: {error}.") from None
        except ClientDisconnect:  # nobody reads this answer
            raise InvalidInput("upload must be complete. The caller hung up. Push it again.") from None
        if not self._ended:
            raise InvalidInput("upload must be complete, up to the form's last boundary. Got less. Push it again.")

    def _begin(self) -> None:
        self._name, self._header, self._headers, self._value = "", b"", b"", bytearray()

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        if self._headers:  # the value of the previous header is complete
            self._header, self._headers = b"", b""
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._headers += data[start:end]
        if self._header.lower() == b"content-disposition":
            self._name = parse_options_header(self._headers)[1].get(b"name", b"").decode(errors="replace")

    def _on_headers(self) -> None:
        if not self._name:
            raise InvalidInput("each part of an upload must have a name. Got a part without one. Name it.")
        if len(self.fields) >= MAX_FIELDS:
            raise InvalidInput(f"upload must have at most {MAX_FIELDS} fields. Got more. Send fewer.")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "file":
            self._file.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise InvalidInput(f"field {self._name[:40]!r} must have at most {MAX_FIELD_BYTES} bytes. Got more.")

    def _on_part_end(self) -> None:
        if self._name != "file":
            self.fields[self._name] = self._value.decode(errors="replace")

    def _on_end(self) -> None:
        self._ended = True
