"""An image model as a folder that timm loads by `local-dir:`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..exceptions import InvalidInput
from ..models.weights import write_weights

if TYPE_CHECKING:
    from ..models.image_model import ImageModel

MAX_DIFFERENCE = 1e-4  # of a number of an embedding


def write_timm(model: ImageModel, folder: Path) -> None:
    """Write a model that `timm.create_model("local-dir:FOLDER", pretrained=True)` loads.

    Args:
        model: with average pooling, of a feature map, and no head of ours, which timm would not compute.
        folder: exists.

    Raises:
        InvalidInput: another model. Nothing is written then.
    """
    import torch

    config = model.config
    if config.pooling != "average" or config.output_dim is not None:
        raise InvalidInput(
            f"to='timm' needs average pooling and no head. Got pooling {config.pooling}, output_dim "
            f"{config.output_dim}. Take to='onnx', or, without GeM, to='sentence-transformers'."
        )
    features, preprocess = model.network.features, config.preprocess
    with torch.inference_mode():
        canary = torch.linspace(-1, 1, 3 * preprocess.size**2, device=model.device)
        canary = canary.view(1, 3, preprocess.size, preprocess.size)
        difference = float((features(canary) - model.network(canary)).abs().max())
    if difference > MAX_DIFFERENCE:
        raise InvalidInput(
            f"to='timm' needs a network that timm pools as we do. Got {config.architecture}, whose embeddings differ "
            f"by {difference:.1e}. Take to='sentence-transformers' or to='onnx'."
        )
    described = {
        "size": preprocess.size,
        "interpolation": preprocess.interpolation,
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "crop_pct": preprocess.crop_pct,
        "crop_mode": "center",
    }
    write_timm_config(folder, config.architecture, model.dim, described)
    write_weights(features, folder / "model.safetensors")


def write_timm_config(
    folder: Path,
    architecture: str,
    features: int,
    preprocess: Mapping[str, Any],
    arguments: Mapping[str, Any] | None = None,
) -> None:
    """Write the config.json of a network without classifier, which timm and transformers' TimmWrapperModel read.

    Args:
        folder: exists.
        architecture: timm's name without a tag.
        features: size of its pooled output.
        preprocess: 'size', 'interpolation', 'mean', 'std', 'crop_pct' and 'crop_mode', as timm means them.
        arguments: of `timm.create_model`, for transformers alone.
    """
    rest = {name: value for name, value in preprocess.items() if name != "size"}
    content = {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": features,
        **({"model_args": dict(arguments)} if arguments else {}),
        "pretrained_cfg": {"num_classes": 0, "input_size": [3, preprocess["size"], preprocess["size"]], **rest},
    }
    (folder / "config.json").write_text(json.dumps(content, indent=1))
