"""Texts that arrive as token ids of OpenAI's encoding cl100k_base, which LangChain sends by default.

Clients use this encoding whatever the model is. Our models have their own tokenizers, so ids become text again.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from functools import cache
from pathlib import Path

# The file of tiktoken (MIT), SHA-256 223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7 when unpacked
TABLE = Path(__file__).with_name("cl100k_base.tiktoken.gz")


def text_of(ids: Sequence[int]) -> str:
    """Return the text of token ids. Bytes that are no UTF-8 become U+FFFD, as in tiktoken.

    Raises:
        ValueError: an id outside the encoding, such as that of a special token.
    """
    table = _table()
    if unknown := [number for number in ids if not 0 <= number < len(table)]:
        raise ValueError(
            f"must be texts, or token ids of OpenAI's cl100k_base, 0 to {len(table) - 1}, and holds {unknown[0]}. "
            "LangChain sends texts with OpenAIEmbeddings(check_embedding_ctx_length=False)"
        )
    return b"".join(table[number] for number in ids).decode(errors="replace")


@cache
def _table() -> list[bytes]:
    return [base64.b64decode(line.split()[0]) for line in gzip.decompress(TABLE.read_bytes()).splitlines()]
