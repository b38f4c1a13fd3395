"""Loads and saves image models: timm's pretrained weights, checkpoint files, artifacts.

Layout of an artifact:

models/<name>/image_model.json      `ImageModelConfig`
models/<name>/weights.safetensors   the network's state
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..exceptions import CorruptedArtifact, InvalidInput, NoSuchModel
from .acceleration import without_initial_weights
from .backbone import Backbone
from .image_model import ImageModel, ImageModelConfig, ImagePreprocess, build_image_model, network_of, pooling_of
from .stand_ins import RANDOM, RANDOM_SEED
from .weights import (
    bounded_download,
    checkpoint_file,
    missing_weights,
    planned_network,
    read_checkpoint,
    read_config,
    require_same,
    stored_tensors,
    tag_file,
    write_weights,
)

if TYPE_CHECKING:
    from torch import Tensor

CONFIG_FILE, WEIGHTS_FILE = "image_model.json", "weights.safetensors"


def tower_of(row: Backbone) -> str:
    """Return the name of a row's only tower, such as 'resnet50'. It also prefixes the names of its metrics."""
    return row.architecture.removeprefix("tf_")


def load_image_backbone(
    row: Backbone,
    device: str = "cpu",
    weights_folder: Path | None = None,
    model_options: Mapping[str, Any] | None = None,
) -> ImageModel:
    """Load a row's pretrained model.

    Args:
        row: of the task 'image-to-image'. `pretrained` is timm's tag or a checkpoint file. Tests also use `RANDOM`.
        device: torch's name of a device.
        weights_folder: the only folder whose checkpoint files a server may read. None allows any path, on the
            user's own machine.
        model_options: 'pooler' and 'pooler_options', see `pooling_of`.

    Raises:
        NoSuchModel: no weights in the hub's cache, in a file or by download.
        KeysMismatchError: the checkpoint belongs to another architecture.
        InvalidInput: wrong options.
    """
    import torch

    if row.in_artifacts:
        check_image_weights(row)
    pooling = pooling_of(dict(model_options or {}))
    config = replace(ImageModelConfig(row.architecture, _preprocess(row)), **pooling)
    if row.pretrained == RANDOM:  # in tests alone
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            return build_image_model(config, row.name, tower_of(row), device)
    file = tag_file(row, weights_folder) if _is_tag(row) else _checkpoint(row, weights_folder)
    state = _download(row, weights_folder) if file is None else read_checkpoint(file)
    if any(key.startswith("features.") for key in state):  # the weights file of an artifact
        state = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    expected = f"{file or row.name} must hold weights of {row.architecture}"
    planned: Any = planned_network(lambda: network_of(config), state, expected)
    own = planned.features.state_dict()
    heads = _classifier_heads(row)
    fitting = {key: value for key, value in state.items() if key in own or key.partition(".")[0] not in heads}
    require_same(own, fitting, expected)
    with without_initial_weights():
        model = build_image_model(config, row.name, tower_of(row))
    model.network.features.load_state_dict(fitting, strict=False)
    model.network.to(device)
    return model


def check_image_weights(row: Backbone, weights_folder: Path | None = None) -> None:
    """Check that a row's weights are a tag of timm or a file.

    Raises:
        NoSuchModel: neither, or only artifacts have them. The message has the tags and the paths searched.
    """
    if row.in_artifacts:
        raise NoSuchModel(
            f"{row.name} has weights in artifacts alone. Got no artifact. Import its folder: fit(model=FOLDER), or "
            f"finetuner artifact import FOLDER, and pass the artifact's id."
        )
    if row.pretrained != RANDOM and not _is_tag(row):
        _checkpoint(row, weights_folder)


def with_head(model: ImageModel, output_dim: int | None, *, freeze: bool) -> None:
    """Prepare a model for a run, in place: add a head of random weights, freeze the backbone.

    Args:
        model: pretrained or tuned. A model that has a head keeps it.
        output_dim: output size of the head. None adds no head to a backbone that is trained, and a head of the
            backbone's own size to a frozen one.
        freeze: exclude the backbone from training.

    Raises:
        InvalidInput: `output_dim` differs from the size of the existing head.
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
            f"output_dim must be {config.output_dim}, the size of the tuned model's head. Got {output_dim}. "
            f"Leave it out, or start from the backbone."
        )
    if freeze:
        network.freeze()


def save_image_model(model: ImageModel, folder: Path) -> None:
    """Write a model into `folder`, in the layout above."""
    inner = folder / model.towers[0]
    inner.mkdir(parents=True)
    (inner / CONFIG_FILE).write_text(json.dumps(asdict(model.config), indent=1))
    write_weights(model.network, inner / WEIGHTS_FILE)


def holds_image_model(folder: Path) -> bool:
    """Return whether `folder` holds an image model."""
    return any(folder.glob(f"*/{CONFIG_FILE}"))


def load_image_model(folder: Path, model_id: str, device: str = "cpu") -> ImageModel:
    """Load the model that `save_image_model` wrote.

    Raises:
        CorruptedArtifact: no config, several, or one that cannot be read.
        KeysMismatchError: the weights do not fit the config.
    """
    from safetensors.torch import load_file

    check_image_model(folder)
    inner, config = read_image_config(folder)
    with without_initial_weights():
        model = build_image_model(config, model_id, inner.name)
    model.network.load_state_dict(load_file(inner / WEIGHTS_FILE, device="cpu"), strict=False)
    model.network.to(device)
    return model


def check_image_model(folder: Path) -> int:
    """Compare an image model's config with the header of its weights. Nothing is loaded.

    Returns:
        The embedding size.

    Raises:
        CorruptedArtifact, KeysMismatchError: see `load_image_model`.
    """
    inner, config = read_image_config(folder)
    stored = stored_tensors([inner / WEIGHTS_FILE])
    expected = f"weights in {inner} must fit its {CONFIG_FILE}"
    planned: Any = planned_network(lambda: network_of(config), stored, expected)
    require_same(planned.state_dict(), stored, expected)
    return int(planned.dim)


def read_image_config(folder: Path) -> tuple[Path, ImageModelConfig]:
    """Return the folder of the only image model below `folder`, and its config.

    Raises:
        CorruptedArtifact: no config, several, or one that cannot be read.
    """
    files = sorted(folder.glob(f"*/{CONFIG_FILE}"))
    if len(files) != 1:
        raise CorruptedArtifact(f"{folder} must hold one model with {CONFIG_FILE}. Got {len(files)}. Fetch it again.")
    try:
        values = read_config(files[0].read_bytes(), CONFIG_FILE)
        preprocess = values["preprocess"]
        values["preprocess"] = ImagePreprocess(
            **preprocess | {"mean": tuple(preprocess["mean"]), "std": tuple(preprocess["std"])}
        )
        return files[0].parent, ImageModelConfig(**values)
    except (ValueError, TypeError, KeyError) as error:
        raise _not_a_model(files[0].parent, error) from error


def _not_a_model(folder: Path, error: Exception) -> CorruptedArtifact:
    return CorruptedArtifact(f"{folder / CONFIG_FILE} must describe an image model. Got: {error}. Fetch it again.")


def _is_tag(row: Backbone) -> bool:
    return row.pretrained in _tags(row)


def _tags(row: Backbone) -> list[str]:
    from timm.models import list_pretrained

    prefix = f"{row.architecture}."
    return [name.removeprefix(prefix) for name in list_pretrained(f"{prefix}*")]


def _settings(row: Backbone) -> Any:
    """Return timm's PretrainedCfg of a row's weights, or of its architecture if the weights have no tag."""
    from timm.models import get_pretrained_cfg

    settings = get_pretrained_cfg(f"{row.architecture}.{row.pretrained}" if _is_tag(row) else row.architecture)
    if settings is None:
        raise NoSuchModel(
            f"architecture must be one that timm lists. Got {row.architecture!r}. See timm.list_models()."
        )
    return settings


def _classifier_heads(row: Backbone) -> set[str]:
    """Return the names of the classifier modules. timm names one layer of each, or none."""
    layers = _settings(row).classifier or ()
    return {layer.partition(".")[0] for layer in ((layers,) if isinstance(layers, str) else layers)}


def _preprocess(row: Backbone) -> ImagePreprocess:
    settings = _settings(row)
    return ImagePreprocess(
        settings.input_size[-1], settings.mean, settings.std, settings.interpolation, settings.crop_pct
    )


def _download(row: Backbone, weights_folder: Path | None) -> dict[str, Tensor]:
    import timm

    full = f"{row.architecture}.{row.pretrained}"
    try:
        with bounded_download():
            state: dict[str, Tensor] = timm.create_model(full, pretrained=True).state_dict()
            return state
    except Exception as error:  # from the hub's client, its HTTP library or the file
        raise missing_weights(row, weights_folder, f"timm/{full}/model.safetensors", error) from error


def _checkpoint(row: Backbone, weights_folder: Path | None) -> Path:
    return checkpoint_file(row, weights_folder, _tags(row))
