"""Where a model of pictures comes from and goes to: timm's pretrained weights, a checkpoint file, an artifact.

models/<name>/image_model.json      `ImageModelConfig`
models/<name>/weights.safetensors   the network's state
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .backbones import Backbone
from .clip import bounded_download
from .exceptions import CorruptedArtifact, InvalidInput, KeysMismatchError, NoSuchModel
from .image_model import ImageModel, ImageModelConfig, ImagePreprocess, build, pooling_of

if TYPE_CHECKING:
    from torch import Tensor

RANDOM = "random"  # in place of a tag: weights of a fixed seed, for tests
RANDOM_SEED = 0
CONFIG_FILE, WEIGHTS_FILE = "image_model.json", "weights.safetensors"
CHECKPOINTS = (".safetensors", ".pt", ".pth", ".bin")


def tower_of(row: Backbone) -> str:
    """Return the name of a row's only model, which stands before its metrics, too: 'resnet50'."""
    return row.architecture.removeprefix("tf_")


def load_image_backbone(
    row: Backbone,
    device: str = "cpu",
    weights_folder: Path | None = None,
    model_options: Mapping[str, Any] | None = None,
) -> ImageModel:
    """Load a row's pretrained model.

    Args:
        row: of the task 'image-to-image'; `pretrained` is timm's tag, a checkpoint file, or `RANDOM`.
        device: torch's name of a device.
        weights_folder: on a server, the only folder from which checkpoint files may come; None on the user's
            own machine, where any path may be read.
        model_options: 'pooler' and 'pooler_options', see `pooling_of`.

    Raises:
        NoSuchModel: the weights are neither in the hub's cache, nor a file, nor to be downloaded.
        KeysMismatchError: a checkpoint of another architecture.
        InvalidInput: wrong options.
    """
    import torch

    pooling = pooling_of(dict(model_options or {}))
    config = replace(ImageModelConfig(row.architecture, _preprocess(row)), **pooling)
    if row.pretrained == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            return build(config, row.name, tower_of(row), device)
    state = _downloaded(row) if _is_tag(row) else _read_checkpoint(_checkpoint(row, weights_folder))
    model = build(config, row.name, tower_of(row))
    if any(key.startswith("features.") for key in state):  # of an artifact's own weights file
        state = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    counters = [key for key in model.network.features.state_dict() if key.endswith("num_batches_tracked")]
    own = {key: value for key, value in model.network.features.state_dict().items() if key not in counters}
    state = {key: value for key, value in state.items() if key not in counters}  # old checkpoints have none
    fitting = {key: value for key, value in state.items() if not key.startswith(f"{_settings(row).classifier}.")}
    _require_same(own, fitting, f"{row.pretrained} must hold weights of {row.architecture}")
    model.network.features.load_state_dict(fitting, strict=False)
    model.network.to(device)
    return model


def check_image_weights(row: Backbone, weights_folder: Path | None = None) -> None:
    """Refuse a row whose weights are neither a tag of timm's nor a file.

    Raises:
        NoSuchModel: with the tags and the folder that were looked at.
    """
    if row.pretrained != RANDOM and not _is_tag(row):
        _checkpoint(row, weights_folder)


def with_head(model: ImageModel, output_dim: int | None, *, freeze: bool) -> None:
    """Give a model a fresh head of random weights and freeze its backbone, in place, as a run asks for.

    Args:
        model: pretrained, or tuned; a head that it already has is kept where it fits.
        output_dim: of the head; None adds none, unless the backbone is frozen: then one of its own size is trained.
        freeze: whether the backbone stays as it is.

    Raises:
        InvalidInput: an `output_dim` that differs from the head that the model already has.
    """
    network, config = model.network, model.config
    wanted = output_dim or (network.features_dim if freeze else None)
    if config.output_dim is None and wanted is not None:
        from .image_network import make_head

        model.config = replace(config, output_dim=wanted)
        network.head = make_head(network.features_dim, wanted).to(model.device).eval()
        network.dim = model.dim = wanted
    elif output_dim is not None and output_dim != config.output_dim:
        raise InvalidInput(
            f"output_dim must be that of the model that the run goes on from, {config.output_dim}. Got {output_dim}. "
            f"Leave it out, or start from the backbone."
        )
    if freeze:
        network.freeze()


def save_image_model(model: ImageModel, folder: Path) -> None:
    """Write a model below `folder`, in the layout above."""
    from safetensors.torch import save_file

    inner = folder / model.towers[0]
    inner.mkdir(parents=True)
    (inner / CONFIG_FILE).write_text(json.dumps(asdict(model.config), indent=1))
    state = {key: value.detach().cpu().contiguous() for key, value in model.network.state_dict().items()}
    save_file(state, inner / WEIGHTS_FILE)


def holds_image_model(folder: Path) -> bool:
    """Return whether `save_image_model` wrote into this folder."""
    return any(folder.glob(f"*/{CONFIG_FILE}"))


def load_image_model(folder: Path, model_id: str, device: str = "cpu") -> ImageModel:
    """Load what `save_image_model` wrote.

    Raises:
        CorruptedArtifact: a config that cannot be read, or not exactly one.
        KeysMismatchError: weights that do not fit the config.
    """
    from safetensors.torch import load_file

    files = sorted(folder.glob(f"*/{CONFIG_FILE}"))
    if len(files) != 1:
        raise CorruptedArtifact(f"{folder} must hold one model with {CONFIG_FILE}. Got {len(files)}. Fetch it again.")
    try:
        values = json.loads(files[0].read_text())
        preprocess = values["preprocess"]
        values["preprocess"] = ImagePreprocess(
            **preprocess | {"mean": tuple(preprocess["mean"]), "std": tuple(preprocess["std"])}
        )
        config = ImageModelConfig(**values)
        model = build(config, model_id, files[0].parent.name)
        state = load_file(files[0].parent / WEIGHTS_FILE, device="cpu")
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise CorruptedArtifact(f"{files[0]} must describe a model of pictures. It does not: {error}") from error
    _require_same(model.network.state_dict(), state, f"weights in {files[0].parent} must fit its {CONFIG_FILE}")
    model.network.load_state_dict(state)
    model.network.to(device)
    return model


def _require_same(own: Mapping[str, Tensor], given: Mapping[str, Tensor], expected: str) -> None:
    wrong = sorted(set(own) ^ set(given)) + [key for key in own if key in given and own[key].shape != given[key].shape]
    if wrong:
        raise KeysMismatchError(f"{expected}. First keys that do not: {wrong[:3]}. Check the architecture.")


def _is_tag(row: Backbone) -> bool:
    return row.pretrained in _tags(row)


def _tags(row: Backbone) -> list[str]:
    from timm.models import list_pretrained

    prefix = f"{row.architecture}."
    return [name.removeprefix(prefix) for name in list_pretrained(f"{prefix}*")]


def _settings(row: Backbone) -> Any:
    """Return timm's PretrainedCfg of a row's weights, or of its architecture where they are no tag of timm's."""
    from timm.models import get_pretrained_cfg

    settings = get_pretrained_cfg(f"{row.architecture}.{row.pretrained}" if _is_tag(row) else row.architecture)
    if settings is None:
        raise NoSuchModel(
            f"architecture must be one that timm lists. Got {row.architecture!r}. See timm.list_models()."
        )
    return settings


def _preprocess(row: Backbone) -> ImagePreprocess:
    settings = _settings(row)
    return ImagePreprocess(
        settings.input_size[-1], settings.mean, settings.std, settings.interpolation, settings.crop_pct
    )


def _downloaded(row: Backbone) -> dict[str, Tensor]:
    import timm

    full = f"{row.architecture}.{row.pretrained}"
    try:
        with bounded_download(download=True):
            state: dict[str, Tensor] = timm.create_model(full, pretrained=True).state_dict()
            return state
    except Exception as error:  # of the hub's client, of whichever HTTP library, of the file
        from huggingface_hub.constants import HF_HUB_CACHE

        reason = " ".join(str(error).split())[:200].rstrip(". ")
        raise NoSuchModel(
            f"weights of {row.name} must be in the hub's cache ({HF_HUB_CACHE}, repository timm/{full}) or "
            f"downloadable. Got: {reason}. Download them once, or give a file: "
            f"{tower_of(row)}::path/to/weights.safetensors."
        ) from error


def _checkpoint(row: Backbone, weights_folder: Path | None) -> Path:
    path = Path(row.pretrained).expanduser() if weights_folder is None else weights_folder / row.pretrained
    path = path.resolve()
    inside = weights_folder is None or path.is_relative_to(weights_folder.resolve())
    if not inside or path.suffix not in CHECKPOINTS or not path.is_file():
        where = "a checkpoint file" if weights_folder is None else f"a checkpoint file in {weights_folder}"
        raise NoSuchModel(
            f"{tower_of(row)}::... must name a tag ({', '.join(_tags(row)) or 'none'}) or {where} "
            f"({', '.join(CHECKPOINTS)}). Got {row.pretrained!r}."
        )
    return path


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    import torch
    from safetensors.torch import load_file

    try:
        state: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # of two libraries, on a file of any origin
        reason = " ".join(str(error).split())[:200]
        raise KeysMismatchError(f"{path} must be a checkpoint of plain tensors. It is not: {reason}") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise KeysMismatchError(f"{path} must hold tensors by name. Got {type(state).__name__}. Save a state dict.")
    return {str(key): value for key, value in state.items()}
