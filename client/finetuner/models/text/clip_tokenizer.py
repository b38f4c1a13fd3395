"""CLIP's own tokenizer with the ids of open_clip, many times as fast for plain English texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer, _clean_lower
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

if TYPE_CHECKING:
    from ..clip import Tokenizer as AnyTokenizer

PLAIN = re.compile(r"[\t\n\r !-%'-;=-~]*")
"""ASCII without '&' and '<', which begin HTML entities and open_clip's special tokens: cleaning only lower-cases it."""
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+"


class ClipTokenizer:
    """Converts texts to token ids. Plain texts take the fast way, all others open_clip's; the ids are the same.

    Args:
        exact: open_clip's, which lower-cases.
    """

    def __init__(self, exact: SimpleTokenizer) -> None:
        self.exact = exact
        self.context_length = int(exact.context_length)
        self.vocab_size = int(exact.vocab_size)
        self._start, self._end = exact.sot_token_id, exact.eot_token_id
        self._pairs = Tokenizer(
            models.BPE(vocab=exact.encoder, merges=list(exact.bpe_ranks), end_of_word_suffix="</w>")
        )
        self._pairs.normalizer = normalizers.Lowercase()
        self._pairs.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)

    def __call__(self, texts: Sequence[str] | str, context_length: int | None = None) -> torch.Tensor:
        """Return (texts, context_length) int64: start, pairs, end, zeros. A longer text is cut and keeps its end."""
        length = context_length or self.context_length
        batch = [texts] if isinstance(texts, str) else list(texts)
        rows = np.zeros((len(batch), length), dtype=np.int64)
        for row, ids in zip(rows, self._encode(batch), strict=True):
            used = ids[: length - 2]
            row[0], row[1 : len(used) + 1], row[len(used) + 1] = self._start, used, self._end
        return torch.from_numpy(rows)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, start and end included, without any cut."""
        return [len(ids) + 2 for ids in self._encode(list(texts))]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        if len(texts) == 1:  # needs no threads
            (text,) = texts
            return [self._pairs.encode(text).ids if PLAIN.fullmatch(text) else self.exact.encode(text)]
        plain = [PLAIN.fullmatch(text) is not None for text in texts]
        fast = iter(self._pairs.encode_batch_fast([text for text, fits in zip(texts, plain, strict=True) if fits]))
        return [next(fast).ids if fits else self.exact.encode(text) for text, fits in zip(texts, plain, strict=True)]


def open_clip_tokenizer(architecture: str) -> AnyTokenizer:
    """Return the tokenizer of an architecture.

    Args:
        architecture: open_clip's name, or 'local-dir:' and a folder.
    """
    import open_clip

    found: Any = open_clip.get_tokenizer(architecture)
    lower_cases = getattr(found, "clean_fn", None) is _clean_lower
    if type(found) is SimpleTokenizer and lower_cases and found.reduction_fn is None:
        return ClipTokenizer(found)
    tokenizer: AnyTokenizer = found
    return tokenizer
