"""Multipart forms, whose file is read while it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from finetuner.exceptions import InvalidInput

MAX_FIELD_BYTES = 2**20
MAX_FIELDS = 32
PIECE_BYTES = 16 * 2**10  # gzip expands a piece to at most 1,000 times its size, which is held in memory


class Multipart:
    """A multipart form whose part `file` is read piece by piece.

    Args:
        content_type: the request's header.
        advice: what to do instead of another form, for messages.

    Raises:
        InvalidInput: not a multipart form. Its methods raise it for a malformed or incomplete form.
    """

    def __init__(self, content_type: str, advice: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidInput(
                f"upload must be multipart/form-data with a part 'file'. Got {content_type[:80]!r}. {advice}"
            )
        self.fields: dict[str, str] = {}
        """The parts received so far, without `file`, which may come first."""
        self.filename = ""
        """Name of the file, as the caller gives it; '' before it comes."""
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
            options = parse_options_header(self._headers)[1]
            self._name = options.get(b"name", b"").decode(errors="replace")
            if self._name == "file":
                self.filename = options.get(b"filename", b"").decode(errors="replace")

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
