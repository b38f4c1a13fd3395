"""`dimensions`: the size of the vectors that a caller asks for, if a model was trained for others than its own.

A short vector is the first numbers of a whole one, L2-normalised again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..exceptions import InvalidInput
from .checks import scalar
from .wire import INDEX, SEARCH

if TYPE_CHECKING:
    import numpy as np

DIMENSIONS = "dimensions"
MAX_DIMENSIONS = 65_536
WHOLE_ONLY = (INDEX, SEARCH)


class Sized(Protocol):
    """A model with the sizes of its vectors."""

    @property
    def model_id(self) -> str:
        """Artifact id or backbone name."""

    @property
    def dim(self) -> int:
        """Size of its embeddings."""

    @property
    def short_dims(self) -> Sequence[int]:
        """Smaller sizes that it was trained for, from the largest to the smallest."""


def checked_dimensions(dimensions: object, model: Sized) -> int:
    """Return the size of the vectors to answer with.

    Args:
        dimensions: as a caller gave it; None means the model's own size.
        model: the model that encodes.

    Raises:
        InvalidInput: the model was not trained for that size.
    """
    sizes = (model.dim, *model.short_dims)
    asked = model.dim if dimensions is None else scalar(dimensions)
    if isinstance(asked, int | float) and not isinstance(asked, bool) and asked in sizes:
        return int(asked)
    if len(sizes) > 1:
        raise InvalidInput(
            f"dimensions must be one of {', '.join(map(str, sizes))}, the sizes of the embeddings of {model.model_id}. "
            f"Got {asked!r:.80}. Choose one."
        )
    raise InvalidInput(
        f"dimensions must be {model.dim}, the size of the embeddings of {model.model_id}. Got {asked!r:.80}. "
        f"Leave it out. A model that is trained with loss_options={{'matryoshka_dims': [...]}} has shorter ones too."
    )


def refuse_dimensions(endpoint: str, parameters: Mapping[str, Any]) -> None:
    """Check that a request to the index asks for no size of vectors.

    Raises:
        InvalidInput: it does.
    """
    if endpoint in WHOLE_ONLY and parameters.get(DIMENSIONS) is not None:
        raise InvalidInput(
            f"dimensions is for /encode alone. Got {parameters[DIMENSIONS]!r:.80} for {endpoint}. Leave it out: the "
            "indexer's setting `dimensions` says how many numbers the index keeps."
        )


def shortened(vectors: np.ndarray, dim: int) -> np.ndarray:
    """Return the first numbers of vectors, (..., dim) float32, L2-normalised; whole vectors as they are.

    Args:
        vectors: (..., size) float32, L2-normalised, size >= dim.
        dim: from 1.
    """
    import numpy as np

    if vectors.shape[-1] == dim:
        return vectors
    first = vectors[..., :dim]
    lengths = np.linalg.norm(first, axis=-1, keepdims=True)
    cut: np.ndarray = first / np.maximum(lengths, 1e-12)
    return cut
