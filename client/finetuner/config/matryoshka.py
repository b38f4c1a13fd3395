"""Options of CLIPLoss that train short vectors: the first numbers of an embedding are one of its own, Matryoshka."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..contract.checks import number, whole
from ..exceptions import InvalidInput

MATRYOSHKA_DIMS, MATRYOSHKA_WEIGHTS = "matryoshka_dims", "matryoshka_weights"
SIZES, WEIGHTS = (1, 65_535), (1e-6, 1e6)
MOST_DIMS = 16
_DIMS, _WEIGHTS = f"loss_options[{MATRYOSHKA_DIMS!r}]", f"loss_options[{MATRYOSHKA_WEIGHTS!r}]"


@dataclass(frozen=True)
class Matryoshka:
    """The short vectors that a run trains beside the whole ones (arXiv:2205.13147)."""

    dims: tuple[int, ...]
    """1 to 16 sizes, from the largest to the smallest, all below the model's own."""
    weights: tuple[float, ...]
    """Share in the loss of the whole embeddings and then of each size, above 0; their sum does not matter."""

    @classmethod
    def read(cls, given: object, dim: int = 0, *, supported: bool = True) -> Matryoshka | None:
        """Return the checked sizes and weights of a loss's options, None without any.

        Args:
            given: options of the loss by name: matryoshka_dims in any order, matryoshka_weights of the whole
                embeddings and then of each size in that order, all 1 by default.
            dim: the model's embedding size; 0 if it is not known yet.
            supported: whether the loss takes these options.

        Raises:
            InvalidInput: a value is not allowed, or the loss does not take these options.
        """
        if not isinstance(given, Mapping):
            return None
        dims, weights = given.get(MATRYOSHKA_DIMS), given.get(MATRYOSHKA_WEIGHTS)
        if dims is None and weights is None:
            return None
        if not supported:
            raise InvalidInput(
                f"{_DIMS if dims is not None else _WEIGHTS} is for CLIPLoss alone: the cosines of short vectors spread "
                f"wider, and the one bias of a sigmoid loss fits one size. Got {dims or weights!r:.80} for another "
                f"loss. Choose CLIPLoss, or leave it out."
            )
        if dims is None:
            raise InvalidInput(f"{_WEIGHTS} needs {MATRYOSHKA_DIMS}. Got {weights!r:.80} alone. Set both.")
        checked = cls._checked_dims(dims)
        order = sorted(range(len(checked)), key=lambda position: -checked[position])
        share = (1.0,) * (len(checked) + 1) if weights is None else _checked_weights(weights, checked)
        made = cls(tuple(checked[at] for at in order), (share[0], *(share[at + 1] for at in order)))
        if dim:
            made.check_below(dim)
        return made

    @staticmethod
    def _checked_dims(dims: object) -> list[int]:
        if not isinstance(dims, list | tuple) or not 1 <= len(dims) <= MOST_DIMS:
            raise InvalidInput(
                f"{_DIMS} must be a list of 1 to {MOST_DIMS} sizes. Got {dims!r:.80}. For example [64, 32]."
            )
        checked = [whole(_DIMS, size, *SIZES) for size in dims]
        if len(set(checked)) < len(checked):
            raise InvalidInput(f"{_DIMS} must be sizes that differ. Got {checked}. Name each once.")
        return checked

    def check_below(self, dim: int) -> None:
        """Compare the sizes with the model's.

        Args:
            dim: the model's embedding size.

        Raises:
            InvalidInput: a size is not below it.
        """
        if self.dims[0] >= dim:
            raise InvalidInput(
                f"{_DIMS} must be below {dim}, the size of the model's embeddings, which are trained anyway. "
                f"Got {self.dims[0]}. Leave it out."
            )

    def options(self) -> dict[str, Any]:
        """Return the sizes and weights as options of the loss, ready for JSON."""
        return {MATRYOSHKA_DIMS: list(self.dims), MATRYOSHKA_WEIGHTS: list(self.weights)}


def _checked_weights(weights: object, dims: list[int]) -> list[float]:
    if not isinstance(weights, list | tuple) or len(weights) != len(dims) + 1:
        raise InvalidInput(
            f"{_WEIGHTS} must be {len(dims) + 1} numbers: one for the whole embeddings, then one for each of {dims}. "
            f"Got {weights!r:.80}. Add or remove some."
        )
    return [number(_WEIGHTS, weight, *WEIGHTS) for weight in weights]
