"""The names of transformers' CLIPModel, as those of open_clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..exceptions import KeysMismatchError
from ..exports.clip_model import BLOCK, NAMES, PROJECTIONS

if TYPE_CHECKING:
    from torch import Tensor

POSITION_IDS = ".position_ids"  # in files of transformers 4.30 and older


def from_transformers(state: Mapping[str, Tensor], kind: str = "CLIPModel") -> dict[str, Tensor]:
    """Return transformers' weights under the names of open_clip.

    Args:
        state: of a CLIPModel, on any device, also 'meta'.
        kind: transformers' name of the whole model, for the message.

    Raises:
        KeysMismatchError: a name that a CLIPModel does not have.
    """
    import torch

    names = {theirs: ours for ours, theirs in NAMES.items()}
    projections = {theirs: ours for ours, theirs in PROJECTIONS.items()}
    found: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        tower, _, rest = name.partition("_model.encoder.layers.")
        if name.endswith(POSITION_IDS):
            continue
        if name in names:
            found[names[name]] = value
        elif name in projections and value.ndim == 2:
            found[projections[name]] = value.T.contiguous()
        elif rest and tower in ("text", "vision"):
            number, _, part = rest.partition(".")
            block = f"{'visual.' if tower == 'vision' else ''}transformer.resblocks.{number}."
            letter, _, end = part.removeprefix("self_attn.").partition("_proj.")
            if part.startswith("self_attn.") and letter in ("q", "k", "v"):
                thirds.setdefault(f"{block}attn.in_proj_{end}", {})[letter] = value
                continue
            start = next((ours for ours, theirs in BLOCK.items() if part.startswith(theirs)), None)
            if start is None:
                raise unknown_name(name, kind)
            found[block + start + part.removeprefix(BLOCK[start])] = value
        else:
            raise unknown_name(name, kind)
    for name, letters in thirds.items():
        if len(letters) == 3 and len({value.shape for value in letters.values()}) == 1:
            found[name] = torch.cat([letters[letter] for letter in "qkv"])
    return found


def unknown_name(name: str, kind: str) -> KeysMismatchError:
    """Return the error about a weight whose name transformers' model does not have."""
    return KeysMismatchError(
        f"weights must have the names of transformers' {kind}. Got {name!r:.120}. Import a whole {kind}, without "
        f"adapters."
    )
