"""The tokenizer of clip-mini: byte-level pairs of a text cleaned and lower-cased as CLIP's own tokenizer does."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

PAD, START = 0, 1
_RESERVED = 2


class BytePairTokenizer:
    """Converts texts to token ids for open_clip's text tower.

    Each row is start, pairs, end, padding. The end token has the highest id, because open_clip pools at the
    argmax. Start, end and padding are not in the tokenizer file. Their ids lie around the file's own ids, so no
    text of a user can produce them.

    Args:
        path: a tokenizer.json.
        context_length: tokens per row, at least 2.

    Raises:
        FileNotFoundError: no file at `path`.
        ValueError: `context_length` below 2.
    """

    def __init__(self, path: Path, context_length: int) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"tokenizer must be a file. Got no file at {path}. Check the path.")
        self.context_length = _check_length(context_length)
        from open_clip.tokenizer import get_clean_fn

        self._clean = get_clean_fn("lower")  # white space is collapsed, HTML entities and broken encodings are mended
        self._pairs = Tokenizer.from_file(str(path))
        self.end = self._pairs.get_vocab_size() + _RESERVED
        self.vocab_size = self.end + 1

    def __call__(self, texts: list[str] | str, context_length: int | None = None) -> torch.LongTensor:
        """Return (texts, context_length) int64. A longer text is cut and keeps its end token."""
        length = self.context_length if context_length is None else _check_length(context_length)
        batch = [texts] if isinstance(texts, str) else list(texts)
        rows = np.full((len(batch), length), PAD, dtype=np.int64)
        for row, encoding in zip(rows, self._pairs.encode_batch([self._cleaned(text) for text in batch]), strict=True):
            pairs = [number + _RESERVED for number in encoding.ids[: length - 2]]
            row[: len(pairs) + 2] = [START, *pairs, self.end]
        return torch.from_numpy(rows)  # type: ignore[return-value]

    def _cleaned(self, text: str) -> str:
        """Return a text as CLIP's tokenizer cleans it. Printable ASCII without entities has nothing to mend."""
        if text.isascii() and text.isprintable() and "&" not in text:
            return " ".join(text.split()).lower()
        return str(self._clean(text))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, start and end included, without any cut."""
        return [len(found.ids) + 2 for found in self._pairs.encode_batch([self._cleaned(text) for text in texts])]

    def decode(self, tokens: list[int]) -> str:
        """Return the lower-cased text of one row, without start, end and padding."""
        pairs = [number - _RESERVED for number in tokens if _RESERVED <= number < self.end]
        return str(self._pairs.decode(pairs))


def train_tokenizer(captions: list[str], pairs: int, path: Path) -> None:
    """Learn at most `pairs` byte pairs, the 256 single bytes included, from captions, and write the file."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=pairs, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.save(str(path))


def _check_length(context_length: int) -> int:
    if context_length < 2:
        raise ValueError(
            f"context_length must be at least 2, for start and end. Got {context_length}. Choose a larger one."
        )
    return context_length
