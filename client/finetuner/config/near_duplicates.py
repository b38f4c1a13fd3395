"""Near duplicates among the training data: images and captions that the initial model takes for nearly the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..contract.checks import number, options
from ..exceptions import InvalidInput

COSINES = (0.1, 1.0)


@dataclass(frozen=True)
class NearDuplicates:
    """The options of `training_options={"near_duplicates": {...}}`.

    Raises:
        InvalidInput: a value is not allowed, or neither side is looked at.
    """

    images: float | None = 0.95
    """Least cosine of near duplicate images, by the model that the run starts from, 0.1 to 1. None looks at none."""
    captions: float | None = 0.95
    """The same of captions."""
    soft: float = 0.0
    """0 masks near duplicates: they are no negatives of one another. Above 0, up to 1: each counts as much of a
    positive, beside the 1 of the pair itself."""

    def __post_init__(self) -> None:
        for name in ("images", "captions"):
            if (cosine := getattr(self, name)) is not None:
                object.__setattr__(self, name, number(name, cosine, *COSINES))
        object.__setattr__(self, "soft", number("soft", self.soft, 0, 1))
        if self.images is None and self.captions is None:
            raise InvalidInput("images or captions must have a cosine. Got None for both. Leave near_duplicates out.")

    @classmethod
    def read(cls, values: object) -> NearDuplicates:
        """Return the checked options.

        Args:
            values: by field name.

        Raises:
            InvalidInput: a name is unknown, or a value is not allowed.
        """
        try:
            return cls(**options("near_duplicates", values, {entry.name: entry for entry in fields(cls)}))
        except InvalidInput as error:
            raise InvalidInput(f"near_duplicates: {error}") from error

    def to_dict(self) -> Mapping[str, Any]:
        """Return all fields, ready for JSON."""
        return asdict(self)
