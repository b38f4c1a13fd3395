"""Mining of hard negatives: the captions of other images that the model confuses with an image's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..contract.checks import number, options, whole
from ..documents.tags import MAX_NEGATIVES
from ..exceptions import InvalidInput

MOST_RANKS = 1000


@dataclass(frozen=True)
class HardNegatives:
    """The options of `training_options={"hard_negatives": {...}}`.

    Raises:
        InvalidInput: a value is not allowed.
    """

    per_image: int
    """Most captions for each image, 1 to 16."""
    range: tuple[int, int] = (0, 100)
    """(min, max), 0 <= min < max <= 1,000: of the captions of other images, by descending similarity, those of ranks
    min to max - 1 are candidates."""
    relative_margin: float = 0.95
    """Share of the similarity of the image's own caption that a candidate may have, 0.01 to 1 (NV-Retriever,
    arXiv:2407.15831): more similar ones are likely to be true captions, and left out. Exactly: at most
    own - |own| * (1 - relative_margin), with the least similar of several own captions."""
    every: int = 1
    """Mine before the first epoch and again after each `every` epochs, 1 to 10,000."""

    def __post_init__(self) -> None:
        self._set("per_image", whole("per_image", self.per_image, 1, MAX_NEGATIVES))
        if not isinstance(self.range, list | tuple) or len(self.range) != 2:
            raise InvalidInput(f"range must be two ranks, [min, max]. Got {self.range!r:.60}.")
        low, high = (whole("range", rank, 0, MOST_RANKS) for rank in self.range)
        self._set("range", (low, high))
        if high - low < self.per_image:
            raise InvalidInput(
                f"range must hold at least per_image, {self.per_image}, ranks. Got [{low}, {high}]. Raise its end."
            )
        self._set("relative_margin", number("relative_margin", self.relative_margin, 0.01, 1))
        self._set("every", whole("every", self.every, 1, 10_000))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def read(cls, values: object) -> HardNegatives:
        """Return the checked options.

        Args:
            values: by field name; per_image is required.

        Raises:
            InvalidInput: a name is unknown or missing, or a value is not allowed.
        """
        try:
            given = options("options", values, {entry.name: entry for entry in fields(cls)})
            if "per_image" not in given:
                raise InvalidInput("per_image must be given. Got none. Add it, for example {'per_image': 1}.")
            return cls(**given)
        except InvalidInput as error:
            raise InvalidInput(f"hard_negatives: {error}") from error

    def to_dict(self) -> Mapping[str, Any]:
        """Return all fields, ready for JSON."""
        return asdict(self) | {"range": list(self.range)}
