"""Finds weights, reads checkpoints and compares their names and shapes with a network, before it takes memory.

Layout of a weights folder:

<folder>/<ARCH>/<TAG>.safetensors, or .pt    weights of a tag, used before the hub's
<folder>/<ARCH>/config.json, tokenizer.json  files of a transformers text tower, such as XLM-R
<folder>/any/name.safetensors                for `ARCH::any/name.safetensors`

The folder is $FINETUNER_WEIGHTS for users and servers. Without it a server uses `<workspace>/weights`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ..contract.environment import WEIGHTS
from ..exceptions import CorruptedArtifact, FinetunerError, KeysMismatchError, NoSuchModel
from .backbone import Backbone

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
HUB_SECONDS = 5.0
SHOWN = 3
MAX_CONFIG_BYTES = 2**20
MAX_WHOLE = 2**20  # of a whole number in a config; the largest of a known model is a vocabulary's, 262,144
# A network may build more than it keeps, and open_clip resizes the positions of a checkpoint.
SPARE_TENSORS, SPARE_NUMBERS = 100, 2**24
MODULES_PER_TENSOR = 20


def shared_folder() -> Path | None:
    """Return $FINETUNER_WEIGHTS, or None if it is not set."""
    value = os.environ.get(WEIGHTS)
    return Path(value).expanduser().resolve() if value else None


def architecture_folder(row: Backbone, folder: Path | None) -> Path | None:
    """Return the folder of an architecture's files, below a server's folder or `shared_folder`. None without either."""
    folder = folder or shared_folder()
    return None if folder is None else folder / row.architecture


def tag_file(row: Backbone, folder: Path | None) -> Path | None:
    """Return the local file of a row's tag, which replaces the hub's weights, or None."""
    return next((path for path in _tag_files(row, folder) if path.is_file()), None)


def _tag_files(row: Backbone, folder: Path | None) -> list[Path]:
    inner = architecture_folder(row, folder)
    return [] if inner is None else [inner / f"{row.pretrained}{suffix}" for suffix in SUFFIXES[:2]]


def checkpoint_file(row: Backbone, folder: Path | None, tags: Sequence[str]) -> Path:
    """Return the checkpoint file that a row names.

    Args:
        row: its `pretrained` is a file.
        folder: the only folder whose files a server may read. None allows any path, on the user's own machine, and
            also searches `shared_folder`.
        tags: the architecture's, for the message.

    Raises:
        NoSuchModel: no such file. The message has the paths searched.
    """
    bases = [folder] if folder is not None else [Path(), *filter(None, [shared_folder()])]
    given = [base / Path(row.pretrained).expanduser() for base in bases]
    for link, path in zip(given, paths := [path.resolve() for path in given], strict=True):
        inside = folder is None or path.is_relative_to(folder.resolve())
        if inside and link.suffix in SUFFIXES and path.is_file():
            return path if path.suffix in SUFFIXES else link.absolute()  # a link into the hub's cache
    where = "" if folder is None else f" in {folder}"
    searched = ", ".join(dict.fromkeys(map(str, paths)))
    raise NoSuchModel(
        f"{row.architecture}::... must name a tag ({', '.join(tags) or 'none'}) or a checkpoint file{where} "
        f"({', '.join(SUFFIXES)}). Got {row.pretrained!r}. Searched: {searched}."
    )


def missing_weights(row: Backbone, folder: Path | None, hub_file: str, error: Exception) -> NoSuchModel:
    """Return the error for a tag whose weights exist neither here nor on the hub.

    Args:
        row: its `pretrained` is a tag.
        folder: the server's weights folder. None on the user's own machine.
        hub_file: 'owner/repository/file'.
        error: the download's.
    """
    paths = [*map(str, _tag_files(row, folder)), f"the hub's cache ({hub_cache_path(hub_file)})"]
    unset = "" if architecture_folder(row, folder) else f" ${WEIGHTS} is not set."
    return NoSuchModel(
        f"weights of {row.name} must be in {', '.join(paths)} or downloadable. Got: {one_line(error)}.{unset} "
        f"Download them once, or give a file: {row.architecture}::path/to/weights.safetensors."
    )


def hub_cache_path(hub_file: str) -> str:
    """Return the path of 'owner/repository/file' in the hub's cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    repository, _, name = hub_file.rpartition("/")
    return f"{HF_HUB_CACHE}/models--{repository.replace('/', '--')}/snapshots/<commit>/{name}"


@contextmanager
def bounded_download() -> Iterator[None]:
    """Use the hub's cache only, if the hub does not answer within HUB_SECONDS. The hub's own retries take a minute."""
    from huggingface_hub import constants, get_session

    offline = constants.HF_HUB_OFFLINE
    if not offline:
        try:
            get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
        except Exception:  # from the HTTP library of the hub's client, which differs by version
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline


def read_config(content: str | bytes, name: str) -> dict[str, Any]:
    """Return the JSON object of a model's config, whose numbers are small enough to build a network from.

    Raises:
        CorruptedArtifact: more than MAX_CONFIG_BYTES, no JSON object, or a whole number above MAX_WHOLE.
    """
    try:
        if len(content) > MAX_CONFIG_BYTES:
            raise ValueError(f"{len(content)} bytes, of {MAX_CONFIG_BYTES} allowed")
        config = json.loads(content)
        if not isinstance(config, dict):
            raise ValueError(type(config).__name__)
        waiting: list[Any] = [config]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict | list):
                waiting += value.values() if isinstance(value, dict) else value
            elif isinstance(value, int) and abs(value) > MAX_WHOLE:
                raise ValueError(f"a number of {value.bit_length()} bits, of {MAX_WHOLE.bit_length()} allowed")
    except (ValueError, RecursionError) as error:
        raise CorruptedArtifact(f"{name} must be a model's config. Got: {one_line(error)}. Fetch it again.") from error
    return config


def stored_tensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """Return the tensors of safetensors files by name, on the meta device: the files' headers alone are read.

    Raises:
        CorruptedArtifact: a file is missing, or not safetensors.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    stored = {}
    for file in files:
        try:
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                    stored[name] = torch.empty(opened.get_slice(name).get_shape(), device="meta")
        except (SafetensorError, OSError, RuntimeError) as error:
            raise CorruptedArtifact(f"{file} must be safetensors. Got: {one_line(error)}. Fetch it again.") from error
    return stored


def planned_network(build: Callable[[], nn.Module], stored: Mapping[str, Tensor], expected: str) -> nn.Module:
    """Return a network on the meta device, where its weights take no memory. It has the size of its stored weights.

    The build stops as soon as the network is larger than twice its weights and the spare.

    Args:
        build: builds the network by a config that may state any sizes.
        stored: the weights, of any device.
        expected: beginning of the message, such as 'x.pt must hold weights of RN50'.

    Raises:
        KeysMismatchError: the network is larger.
        CorruptedArtifact: the config cannot be built.
    """
    import torch
    from torch.nn.modules import module

    tensors = SPARE_TENSORS + 2 * len(stored)
    numbers = SPARE_NUMBERS + 2 * sum(tensor.numel() for tensor in stored.values())
    left = {"tensors": tensors, "numbers": numbers, "modules": MODULES_PER_TENSOR * tensors}
    thread = get_ident()  # the hooks see the networks of all threads

    def count(_: nn.Module, __: str, value: Tensor | nn.Module | None) -> None:
        if get_ident() != thread or value is None:
            return
        if isinstance(value, torch.Tensor):
            left["tensors"] -= 1
            left["numbers"] -= value.numel()
        else:
            left["modules"] -= 1
        if over := next((kind for kind, rest in left.items() if rest < 0), None):
            raise KeysMismatchError(
                f"{expected}. Got a config of more {over} than the {len(stored)} tensors of the weights hold. "
                f"Check the architecture."
            )

    hooks = [
        module.register_module_parameter_registration_hook(count),
        module.register_module_buffer_registration_hook(count),
        module.register_module_module_registration_hook(count),
    ]
    try:
        with torch.device("meta"):
            return build()
    except FinetunerError:
        raise
    except Exception as error:  # from open_clip, timm or transformers, about any config
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise CorruptedArtifact(f"{expected}. Got a config that cannot be built ({reason}). Fetch it again.") from error
    finally:
        for hook in hooks:
            hook.remove()


def read_checkpoint(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name, without the wrappers of trainers.

    Args:
        path: safetensors, or a pickle of plain tensors: {...}, {'state_dict': {...}}, {'model': {...}}. Names may
            begin with 'module.'.
        device: 'cpu', or 'meta' for shapes alone.

    Raises:
        KeysMismatchError: any other content. Code in a pickle never runs.
    """
    import torch
    from safetensors.torch import load_file

    try:
        state: Any
        if path.suffix != ".safetensors":
            state = torch.load(path, device, weights_only=True)  # noqa: TID251  # tensors alone
        else:
            state = stored_tensors([path]) if device == "meta" else load_file(path)
    except Exception as error:  # from two libraries, about any file. torch's message advises to run the file's code
        reason = one_line(error) if path.suffix == ".safetensors" else "damage, or a pickle of more than tensors"
        raise KeysMismatchError(f"{path} must hold only weights. Got: {reason}. Save a state dict.") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise KeysMismatchError(
            f"{path} must hold only weights, tensors by name. Got {type(state).__name__}. Save a state dict."
        )
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def load_into(network: Any, file: Path, expected: str) -> None:
    """Compare names and shapes, then load a checkpoint as open_clip does, older formats included.

    Raises:
        KeysMismatchError: see `require_same`.
    """
    from open_clip.factory import load_checkpoint

    comparison = network.register_load_state_dict_pre_hook(
        lambda module, state, *_: require_same(module.state_dict(), state, expected)
    )
    try:
        with quiet():
            load_checkpoint(network, str(file))
    except KeysMismatchError:
        raise
    except Exception as error:  # from torch's or safetensors' reader, or open_clip's conversion of older formats
        require_same(network.state_dict(), read_checkpoint(file), expected)
        raise KeysMismatchError(f"{expected}. Got: {one_line(error)}. Check the architecture.") from error
    finally:
        comparison.remove()


@contextmanager
def quiet() -> Iterator[None]:
    """Hide open_clip's remarks on the root logger, such as missing weights that we load afterwards."""
    root = logging.getLogger()

    def refuse(record: logging.LogRecord) -> bool:
        return "open_clip" not in record.pathname

    root.addFilter(refuse)
    try:
        yield
    finally:
        root.removeFilter(refuse)


def write_weights(network: Any, file: Path, holds: Callable[[str], bool] = lambda name: True) -> None:
    """Write the state of a network as safetensors.

    Args:
        network: on any device.
        file: does not exist.
        holds: name of a tensor -> whether the file gets it.
    """
    from safetensors.torch import save_file

    state = {name: value for name, value in network.state_dict().items() if holds(name)}
    save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, file)


def require_same(own: Mapping[str, Tensor], given: Mapping[str, Tensor], expected: str) -> None:
    """Check that two state dicts have the same names and shapes.

    A batch norm's step counter may be missing, as in old checkpoints.

    Args:
        own: the network's.
        given: the checkpoint's.
        expected: beginning of the message, such as 'x.pt must hold weights of RN50'.

    Raises:
        KeysMismatchError: they differ. The message has the first names that are missing, unexpected or misshapen.
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
    """Return another library's message as one line of at most 300 characters, to quote in our own."""
    return " ".join(str(error).split())[:300].rstrip(". ")
