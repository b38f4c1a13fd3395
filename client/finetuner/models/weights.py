"""Where weights are looked for, and whether they fit.

<folder>/<ARCH>/<TAG>.safetensors, or .pt    what a tag means, in place of the hub
<folder>/<ARCH>/config.json, tokenizer.json  where the text tower is one of transformers', such as XLM-R
<folder>/any/name.safetensors                for `ARCH::any/name.safetensors`

The folder is $FINETUNER_WEIGHTS for users and servers; a server without it has `<workspace>/weights`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.environment import WEIGHTS
from ..exceptions import KeysMismatchError, NoSuchModel
from .backbones import Backbone

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
HUB_SECONDS = 5.0
SHOWN = 3


def shared_folder() -> Path | None:
    """Return $FINETUNER_WEIGHTS, or None where it is not set."""
    value = os.environ.get(WEIGHTS)
    return Path(value).expanduser().resolve() if value else None


def architecture_folder(row: Backbone, folder: Path | None) -> Path | None:
    """Return where an architecture's files lie, in a server's folder or in `shared_folder`."""
    folder = folder or shared_folder()
    return None if folder is None else folder / row.architecture


def tag_file(row: Backbone, folder: Path | None) -> Path | None:
    """Return the file that stands in for the hub's weights of a row's tag, or None."""
    return next((path for path in _tag_files(row, folder) if path.is_file()), None)


def _tag_files(row: Backbone, folder: Path | None) -> list[Path]:
    inner = architecture_folder(row, folder)
    return [] if inner is None else [inner / f"{row.pretrained}{suffix}" for suffix in SUFFIXES[:2]]


def checkpoint_file(row: Backbone, folder: Path | None, tags: Sequence[str]) -> Path:
    """Return the checkpoint file that a row names.

    Args:
        row: whose `pretrained` is no tag.
        folder: on a server, the only folder from which it may come; None on the user's own machine, where any
            path may be read, and `shared_folder` is looked into, too.
        tags: the architecture's, for the message.

    Raises:
        NoSuchModel: with each file that was looked at.
    """
    bases = [folder] if folder is not None else [Path(), *filter(None, [shared_folder()])]
    paths = [(base / Path(row.pretrained).expanduser()).resolve() for base in bases]
    for path in paths:
        inside = folder is None or path.is_relative_to(folder.resolve())
        if inside and path.suffix in SUFFIXES and path.is_file():
            return path
    where = "" if folder is None else f" in {folder}"
    looked = ", ".join(dict.fromkeys(map(str, paths)))
    raise NoSuchModel(
        f"{row.architecture}::... must name a tag ({', '.join(tags) or 'none'}) or a checkpoint file{where} "
        f"({', '.join(SUFFIXES)}). Got {row.pretrained!r}. Looked at: {looked}."
    )


def missing_weights(row: Backbone, folder: Path | None, hub_file: str, error: Exception) -> NoSuchModel:
    """Return the error for a tag whose weights are in none of their places.

    Args:
        row: of the tag.
        folder: a server's.
        hub_file: 'owner/repository/file'.
        error: of the download.
    """
    places = [*map(str, _tag_files(row, folder)), f"the hub's cache ({hub_place(hub_file)})"]
    unset = "" if architecture_folder(row, folder) else f" ${WEIGHTS} is not set."
    return NoSuchModel(
        f"weights of {row.name} must be in {', '.join(places)} or downloadable. Got: {one_line(error)}.{unset} "
        f"Download them once, or give a file: {row.architecture}::path/to/weights.safetensors."
    )


def hub_place(hub_file: str) -> str:
    """Return where the hub's cache keeps 'owner/repository/file'."""
    from huggingface_hub.constants import HF_HUB_CACHE

    repository, _, name = hub_file.rpartition("/")
    return f"{HF_HUB_CACHE}/models--{repository.replace('/', '--')}/snapshots/<commit>/{name}"


@contextmanager
def bounded_download() -> Iterator[None]:
    """Where the hub does not answer within HUB_SECONDS, look into its cache only: its own retries take a minute."""
    from huggingface_hub import constants, get_session

    offline = constants.HF_HUB_OFFLINE
    if not offline:
        try:
            get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
        except Exception:  # of whichever HTTP library the hub's client uses in this version
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name, without the wrappers that trainers put around them.

    Args:
        path: safetensors, or a pickle of plain tensors: {...}, {'state_dict': {...}}, {'model': {...}}, each name
            with or without 'module.' before it.

    Raises:
        KeysMismatchError: anything else; a pickle that holds code is not run.
    """
    import torch
    from safetensors.torch import load_file

    try:
        state: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # of two libraries, on a file of any origin; torch's advice is to run its code
        reason = one_line(error) if path.suffix == ".safetensors" else "it is damaged, or a pickle of more than tensors"
        raise KeysMismatchError(f"{path} must hold weights alone. It does not: {reason}.") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise KeysMismatchError(
            f"{path} must hold weights, tensors by name. Got {type(state).__name__}. Save a state dict."
        )
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def require_same(own: Mapping[str, Tensor], given: Mapping[str, Tensor], expected: str) -> None:
    """Compare names and shapes of weights; a batch norm's step counter may be missing, as in old checkpoints.

    Raises:
        KeysMismatchError: `expected`, then the first names that are missing, unexpected or of another shape.
    """
    counters = {key for key in {*own, *given} if key.endswith("num_batches_tracked")}
    shapes = [
        f"{key} {(*given[key].shape,)} for {(*own[key].shape,)}"
        for key in own
        if key in given and own[key].shape != given[key].shape
    ]
    found = {
        "Missing": sorted(set(own) - set(given) - counters),
        "Unexpected": sorted(set(given) - set(own) - counters),
        "Of another shape": shapes,
    }
    wrong = " ".join(f"{kind}: {_first(names)}." for kind, names in found.items() if names)
    if wrong:
        raise KeysMismatchError(f"{expected}. {wrong} Check the architecture.")


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def one_line(error: Exception) -> str:
    """Return the message of another library's error, for the end of one of ours."""
    return " ".join(str(error).split())[:300].rstrip(". ")
