"""Relevance of images to texts: by label or image, or by the scores of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol


class Relevance(Protocol):
    """Tells which images are relevant to which texts, both by their rows."""

    def relevant(self, text: int, image: int) -> bool:
        """Return whether an image is relevant to a text, and so the text to the image."""

    def count(self, text: int) -> int:
        """Return the number of images that are relevant to a text."""

    def described(self, texts: Sequence[int]) -> list[int]:
        """Return the rows of the images that are relevant to at least one of some texts, in order."""


class KeyRelevance:
    """Relevant are text and image with the same key.

    Args:
        text_keys: of each text.
        image_keys: of each image.
    """

    def __init__(self, text_keys: Sequence[str], image_keys: Sequence[str]) -> None:
        self._texts = text_keys
        self._images = image_keys
        self._counts = Counter(image_keys)

    def relevant(self, text: int, image: int) -> bool:
        """Return whether both have the same key."""
        return self._texts[text] == self._images[image]

    def count(self, text: int) -> int:
        """Return the number of images with the text's key."""
        return self._counts[self._texts[text]]

    def described(self, texts: Sequence[int]) -> list[int]:
        """Return the rows of the images whose key one of the texts has."""
        keys = {self._texts[text] for text in texts}
        return [row for row, key in enumerate(self._images) if key in keys]


class ScoreRelevance:
    """Relevant are a text and an image whose pair has a score above 0.

    Args:
        scores: of each text: row of an image -> score.
    """

    def __init__(self, scores: Sequence[Mapping[int, float]]) -> None:
        self._scores = scores

    def relevant(self, text: int, image: int) -> bool:
        """Return whether their pair has a score above 0."""
        return self._scores[text].get(image, 0.0) > 0

    def count(self, text: int) -> int:
        """Return the number of the text's scores above 0."""
        return sum(score > 0 for score in self._scores[text].values())

    def described(self, texts: Sequence[int]) -> list[int]:
        """Return the rows of the images to which one of the texts gives a score above 0."""
        return sorted({image for text in texts for image, score in self._scores[text].items() if score > 0})
