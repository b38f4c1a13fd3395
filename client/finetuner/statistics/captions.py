"""Statistics of captions: lengths, cuts, scripts, repetitions, and the oddest."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass

from .scripts import NONE, script_of
from .spread import Found, Oddity, Spread, factors, oddest
from .tokens import TokenCounter

AT_ONCE = 1024  # captions that are tokenized together
SHOWN = 80  # characters of a caption that are kept
READ = 1000  # characters that decide the script


@dataclass(frozen=True)
class Tokens:
    """Lengths of captions in a model's tokens."""

    model: str
    """Whose tokenizer counted."""
    limit: int
    """Most tokens that the model reads of a text."""
    lengths: Spread
    """Tokens of a caption before any cut, start and end included."""
    cut: int
    """Captions of more tokens than `limit`."""
    longest: int
    """Position of the document with the longest caption."""


@dataclass(frozen=True)
class CaptionStatistics:
    """Statistics of the captions of a data set."""

    count: int
    """Captions."""
    distinct: int
    """Different captions; white space around them does not count."""
    characters: Spread
    """Characters of a caption."""
    tokens: Tokens | None
    """None if nobody counts tokens."""
    scripts: dict[str, int]
    """Script -> captions, see `scripts.script_of`; the most frequent first."""
    without_letters: Found
    """Captions that have no letter."""
    at_several_images: int
    """Captions of a text that stands at different images."""
    most_repeated: str
    """The text at most images, '' if each stands at one."""
    most_images: int
    """Number of different images at which `most_repeated` stands."""
    repeated_pairs: int
    """Captions that stand once more at the same image."""
    oddest: list[Oddity]
    """Captions of at least twice or at most half the median length, ten at most."""


class Captions:
    """Collects captions. It keeps SHOWN characters of each different one, and some bytes of every one.

    Args:
        counter: counts tokens; None for no count.
    """

    def __init__(self, counter: TokenCounter | None = None) -> None:
        self._counter = counter
        self._numbers: dict[bytes, int] = {}  # of the different captions, by hash
        self._texts: list[str] = []
        self._scripts: list[str] = []
        self._images = array("I")
        self._lengths = array("I")
        self._tokens = array("I")
        self._waiting: list[str] = []
        self._pairs: set[bytes] = set()
        self._all = array("I")  # the number of each caption
        self._documents = array("I")

    def add(self, document: int, caption: str, image: bytes = b"") -> None:
        """Add a caption.

        Args:
            document: position of its document.
            caption: not empty.
            image: hash of its image's file, b'' without one.
        """
        text = caption.strip()
        key = _hash(text.encode(errors="replace"))
        number = self._numbers.setdefault(key, len(self._numbers))
        if number == len(self._texts):
            self._add_text(text)
        pair = _hash(key + image)
        if pair not in self._pairs:
            self._pairs.add(pair)
            self._images[number] += bool(image)
        self._all.append(number)
        self._documents.append(document)

    def _add_text(self, text: str) -> None:
        self._texts.append(text[:SHOWN])
        self._scripts.append(script_of(text[:READ]))
        self._images.append(0)
        self._lengths.append(len(text))
        if self._counter is not None:
            self._waiting.append(text)
            if len(self._waiting) == AT_ONCE:
                self._count_waiting(self._counter)

    def _count_waiting(self, counter: TokenCounter) -> None:
        self._tokens.extend(counter.count(self._waiting))
        self._waiting.clear()

    @property
    def keys(self) -> set[bytes]:
        """Hashes of the different captions."""
        return set(self._numbers)

    def statistics(self) -> CaptionStatistics | None:
        """Return the statistics of all captions so far, None without any."""
        if not self._all:
            return None
        scripts = dict.fromkeys(self._scripts, 0)
        for number in self._all:
            scripts[self._scripts[number]] += 1
        bare = (at for at, number in enumerate(self._all) if self._scripts[number] == NONE)
        most = max(range(len(self._texts)), key=self._images.__getitem__)
        several = self._images[most] > 1
        return CaptionStatistics(
            count=len(self._all),
            distinct=len(self._texts),
            characters=Spread.of([self._lengths[number] for number in self._all]),
            tokens=self._token_statistics(),
            scripts=dict(sorted(scripts.items(), key=lambda item: -item[1])),
            without_letters=Found.of(self._documents[at] for at in bare),
            at_several_images=sum(1 for number in self._all if self._images[number] > 1),
            most_repeated=self._texts[most] if several else "",
            most_images=self._images[most] if several else 0,
            repeated_pairs=len(self._all) - len(self._pairs),
            oddest=self._oddest(),
        )

    def _token_statistics(self) -> Tokens | None:
        counter = self._counter
        if counter is None:
            return None
        self._count_waiting(counter)
        lengths = [self._tokens[number] for number in self._all]
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        cut = sum(length > counter.limit for length in lengths)
        return Tokens(counter.model, counter.limit, Spread.of(lengths), cut, self._documents[longest])

    def _oddest(self) -> list[Oddity]:
        first: dict[int, int] = {}
        for at, number in enumerate(self._all):
            first.setdefault(number, self._documents[at])
        median = Spread.of(self._lengths).median
        return [
            Oddity(first[number], self._texts[number], f"{self._lengths[number]} characters, median {median:g}")
            for number in oddest(factors(self._lengths))
        ]


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
