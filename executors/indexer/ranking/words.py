"""Words of texts, and BM25 (Robertson and Zaragoza 2009) over the texts of one field, in memory."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

K1, B = 1.2, 0.75
# A code: letters and digits joined by signs, with a digit in it, such as AB-123/X or 4.5-mm.
JOINED = re.compile(r"\w+(?:[-/._+#:]\w+)+")
WORD = re.compile(r"\w+")
# Of one text; the rest is not read.
MAX_CHARACTERS = 20_000
# Slots of deleted documents, above which the arrays are made again.
MOST_DEAD = 1000


def words(text: str) -> list[str]:
    """Return the words of a text in order: runs of letters and digits of any script, casefolded (NFKC).

    A code with a digit and joining signs, such as 'AB-123/X', is a word as a whole, too: 'ab-123/x', after its parts.
    """
    plain = unicodedata.normalize("NFKC", text[:MAX_CHARACTERS]).casefold()
    found = WORD.findall(plain)
    return [*found, *(code for code in JOINED.findall(plain) if is_code(code))]


def is_code(word: str) -> bool:
    """Return whether a word has a digit, as codes have."""
    return any(letter.isdigit() for letter in word)


class FieldWords:
    """The words of one field of all documents.

    score = sum over the query's words of idf * tf * (K1 + 1) / (tf + K1 * (1 - B + B * length / mean length)), with
    idf = ln(1 + (N - n + 0.5) / (n + 0.5)): N documents have the field, n of them the word.
    """

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self._ids: list[str | None] = []
        self._lengths = array("L")
        self._postings: dict[str, tuple[array[int], array[int]]] = defaultdict(lambda: (array("L"), array("L")))
        self._total = 0

    def __len__(self) -> int:
        return len(self._slots)

    def put(self, document_id: str, texts: Iterable[str]) -> None:
        """Set a document's words; texts without a word remove it."""
        self.remove(document_id)
        counts = Counter(word for text in texts for word in words(text))
        if not counts:
            return
        slot = len(self._ids)
        self._slots[document_id] = slot
        self._ids.append(document_id)
        self._lengths.append(counts.total())
        self._total += counts.total()
        for word, count in counts.items():
            slots, frequencies = self._postings[word]
            slots.append(slot)
            frequencies.append(count)

    def remove(self, document_id: str) -> None:
        """Remove a document; an unknown one is ignored."""
        slot = self._slots.pop(document_id, None)
        if slot is not None:
            self._ids[slot] = None
            self._total -= self._lengths[slot]
            if len(self._ids) - len(self._slots) > max(MOST_DEAD, len(self._slots)):
                self._compact()

    def frequency(self, word: str) -> int:
        """Return the number of documents with a word."""
        return 0 if word not in self._postings else sum(self._ids[slot] is not None for slot in self._postings[word][0])

    def scores(self, query: Iterable[str]) -> dict[str, float]:
        """Return the BM25 score of each document with a word of the query, in no order.

        Args:
            query: words; each counts as often as it comes.
        """
        held = len(self._slots)
        if not held:
            return {}
        total: NDArray[np.float64] = np.zeros(len(self._ids))
        lengths = np.frombuffer(self._lengths, dtype=self._lengths.typecode)
        alive: NDArray[np.bool_] | None = None
        mean = self._total / held
        for word, times in Counter(query).items():
            if word not in self._postings:
                continue
            if alive is None:
                alive = np.fromiter((entry is not None for entry in self._ids), bool, len(self._ids))
            slots, frequencies = (np.frombuffer(column, dtype=column.typecode) for column in self._postings[word])
            here = alive[slots]
            slots, tf = slots[here], frequencies[here].astype(np.float64)
            idf = np.log(1 + (held - len(slots) + 0.5) / (len(slots) + 0.5))
            total[slots] += times * idf * tf * (K1 + 1) / (tf + K1 * (1 - B + B * lengths[slots] / mean))
        return {str(self._ids[slot]): float(total[slot]) for slot in np.flatnonzero(total)}

    def _compact(self) -> None:
        """Make the arrays again without the removed documents."""
        kept = [slot for slot, document_id in enumerate(self._ids) if document_id is not None]
        moved = {slot: number for number, slot in enumerate(kept)}
        postings: Mapping[str, tuple[array[int], array[int]]] = dict(self._postings)
        self._ids, self._lengths = [self._ids[slot] for slot in kept], array("L", [self._lengths[s] for s in kept])
        self._slots = {str(document_id): number for number, document_id in enumerate(self._ids)}
        self._postings.clear()
        for word, (slots, frequencies) in postings.items():
            pairs = [(moved[slot], tf) for slot, tf in zip(slots, frequencies, strict=True) if slot in moved]
            if pairs:
                self._postings[word] = (array("L", [slot for slot, _ in pairs]), array("L", [tf for _, tf in pairs]))
