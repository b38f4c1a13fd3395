"""clip-mini's tokenizer: lower-cased byte-level pairs, so that any text has tokens."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

PAD, START = 0, 1
_RESERVED = 2


class BytePairTokenizer:
    """Texts to token ids as open_clip's text tower wants them.

    Each row is start, pairs, end, padding. The end token has the highest id, because open_clip pools at the
    argmax. Start, end and padding are not in the tokenizer file: their ids are placed around its own, so no
    text that a user types can be mistaken for one of them.
    """

    def __init__(self, path: Path, context_length: int) -> None:
        """``path``: a tokenizer.json; ``context_length``: tokens per row, at least 2.

        Raises FileNotFoundError when there is no such file, ValueError for a shorter context.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"expected a tokenizer.json at {path}. Got no file: check the path.")
        self.context_length = _checked(context_length)
        self._pairs = Tokenizer.from_file(str(path))
        self.end = self._pairs.get_vocab_size() + _RESERVED
        self.vocab_size = self.end + 1

    def __call__(self, texts: list[str] | str, context_length: int | None = None) -> torch.LongTensor:
        """(n, context_length) int64; a longer text is cut and keeps its end token. One text gives one row."""
        length = self.context_length if context_length is None else _checked(context_length)
        batch = [texts] if isinstance(texts, str) else list(texts)
        rows = torch.full((len(batch), length), PAD, dtype=torch.long)
        for row, encoding in zip(rows, self._pairs.encode_batch(batch), strict=True):
            pairs = [number + _RESERVED for number in encoding.ids[: length - 2]]
            row[: len(pairs) + 2] = torch.tensor([START, *pairs, self.end])
        return rows  # type: ignore[return-value]

    def decode(self, tokens: list[int]) -> str:
        """The lower-cased text of one row, without start, end and padding."""
        pairs = [number - _RESERVED for number in tokens if _RESERVED <= number < self.end]
        return str(self._pairs.decode(pairs))


def train_tokenizer(captions: list[str], pairs: int, path: Path) -> None:
    """Learns at most ``pairs`` byte pairs (256 single bytes included) from the captions; writes the file."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=pairs, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.save(str(path))


def _checked(context_length: int) -> int:
    if context_length < 2:
        raise ValueError(f"context_length must be at least 2 (start and end). Got {context_length}.")
    return context_length
