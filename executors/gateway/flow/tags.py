"""Checks the tags of documents in protobuf: a number that no room could read is refused, with its document named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from finetuner.contract.values import exact
from finetuner.exceptions import InvalidDocument, InvalidInput


def check_tags(messages: Iterable[Any], first: int = 0) -> None:
    """Check the tags of documents and of their parts.

    Args:
        messages: DocumentProtos.
        first: position of the first one.

    Raises:
        InvalidDocument: a number is not finite, or may have lost digits; see `exact`.
    """
    for position, message in enumerate(messages, first):
        try:
            for part in (message, *message.chunks, *message.matches):
                _check_fields(part.tags.fields, "tags")
        except InvalidInput as error:
            raise InvalidDocument(f"document {position} ({message.id:.200}): {error}") from None


def _check_fields(fields: Any, name: str) -> None:
    for key, value in fields.items():
        _check(value, f"{name}[{key!r:.80}]")


def _check(value: Any, name: str) -> None:
    match value.WhichOneof("kind"):
        case "number_value":
            exact(value.number_value, name)
        case "struct_value":
            _check_fields(value.struct_value.fields, name)
        case "list_value":
            for position, inner in enumerate(value.list_value.values):
                _check(inner, f"{name}[{position}]")
