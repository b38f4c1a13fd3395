"""ImageModel: encodes images with a timm backbone, pooling, an optional head and preprocessing.

Its image methods are those of `clip.Clip`. Code that encodes images takes either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from ..contract.checks import choice, number, options, text, whole
from ..exceptions import InvalidInput
from .pixels import batched

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image

    from .image_network import ImageNetwork

POOLINGS = ("average", "GeM")
MODEL_OPTIONS = (
    {
        "name": "pooler",
        "type": "str",
        "default": "average",
        "description": "Pooling of the feature map to one vector: 'average' or 'GeM'.",
    },
    {
        "name": "pooler_options",
        "type": "dict",
        "default": "{'p': 3.0, 'eps': 1e-06}",
        "description": "For GeM: 'p', the initial exponent in [0.1, 100], and 'eps', the lower bound of the features "
        "in [1e-12, 1].",
    },
)
"""The options that `pooling_of` reads, as `list_model_options` returns them."""


@dataclass(frozen=True)
class ImagePreprocess:
    """Steps from an image to the network's input: resize, centre crop, scale to [0, 1], normalise."""

    size: int
    """Side of the input in pixels."""
    mean: tuple[float, float, float]
    """Means of R, G and B, in [0, 1]."""
    std: tuple[float, float, float]
    """Standard deviations of R, G and B, in [0, 1]."""
    interpolation: str = "bicubic"
    """Method of the resize: 'bicubic' or 'bilinear'."""
    crop_pct: float = 0.95
    """Share of the shorter side that the centre crop keeps, in [0.1, 1]."""

    def __post_init__(self) -> None:
        whole("size", self.size, 1, 1024)
        number("crop_pct", self.crop_pct, 0.1, 1)
        for mean, std in zip(self.mean, self.std, strict=True):
            number("mean", mean, 0, 1)
            number("std", std, 1e-6, 1)


@dataclass(frozen=True)
class ImageModelConfig:
    """The values that rebuild an image model without its weights.

    Raises:
        InvalidInput: a value that is not allowed.
    """

    architecture: str
    """timm's name without a tag."""
    preprocess: ImagePreprocess
    """The preprocessing of the pretrained weights."""
    pooling: str = "average"
    """'average' or 'GeM'."""
    gem_p: float = 3.0
    """Initial exponent of GeM, in [0.1, 100]. Training changes it."""
    gem_eps: float = 1e-6
    """Lower bound of the features in GeM, in [1e-12, 1]."""
    output_dim: int | None = None
    """Output size of the head, 1 to 65,536. None for no head."""

    def __post_init__(self) -> None:
        text("architecture", self.architecture)
        choice("pooler", self.pooling, POOLINGS)
        number("pooler_options['p']", self.gem_p, 0.1, 100)
        number("pooler_options['eps']", self.gem_eps, 1e-12, 1)
        if self.output_dim is not None:
            whole("output_dim", self.output_dim, 1, 65_536)


class ImageModel:
    """A model that encodes images only.

    Args:
        network: in eval mode on its device.
        config: the network was built from it.
        model_id: artifact id or backbone name, stored beside each vector.
        name: the only tower, for example 'resnet50'.
    """

    short_dims: Sequence[int] = ()
    """Smaller sizes of vectors that the model was trained for, see `contract.dimensions`."""

    def __init__(self, network: ImageNetwork, config: ImageModelConfig, model_id: str, name: str) -> None:
        self.network = network
        self.config = config
        self.model_id = model_id
        self.towers = (name,)
        self.preprocess_config = config.preprocess
        self.preprocess = image_transform(config.preprocess)
        self.dim = network.dim

    def __repr__(self) -> str:
        return f"ImageModel({self.model_id!r}, {self.towers[0]!r}, dim={self.dim})"

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.network.parameters()).device

    def encode_texts(self, texts: Sequence[str], batch_size: int = 32) -> NoReturn:
        """Raise InvalidInput: an image model has no text tower."""
        raise InvalidInput(f"{self.towers[0]} encodes images only. Got {len(texts)} texts. Choose a CLIP.")

    def encode_images(self, images: Sequence[Image], batch_size: int = 32) -> np.ndarray:
        """Return (images, dim) float32, L2-normalised."""
        return self.encode_pixels([self.preprocess(image) for image in images], batch_size)

    def forward_of(self, tower: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the forward pass of (batch, 3, size, size) float32 pixels to (batch, dim), not normalised.

        Args:
            tower: any; the model has one.
        """
        network: Callable[[torch.Tensor], torch.Tensor] = self.network
        return network

    def encode_pixels(self, pixels: Sequence[torch.Tensor], batch_size: int = 32) -> np.ndarray:
        """Return (images, dim) float32, L2-normalised.

        Args:
            pixels: each (3, size, size), float32 from `preprocess` or uint8 from `pixels.cropped`.
            batch_size: images per forward pass.
        """
        import numpy as np
        import torch

        if not pixels:
            return np.empty((0, self.dim), dtype=np.float32)
        with torch.inference_mode():
            batches = [
                self.network(batched(pixels[start : start + batch_size], self.preprocess, self.device)).float()
                for start in range(0, len(pixels), batch_size)
            ]
            return torch.nn.functional.normalize(torch.cat(batches), dim=-1).cpu().numpy()


def image_transform(preprocess: ImagePreprocess) -> Callable[[Image], torch.Tensor]:
    """Return the transform from an image to the network's input, (3, size, size) float32."""
    from timm.data.transforms_factory import create_transform

    transform: Callable[[Image], torch.Tensor] = create_transform(
        (3, preprocess.size, preprocess.size),
        is_training=False,
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        std=preprocess.std,
        crop_pct=preprocess.crop_pct,
        crop_mode="center",
    )
    return transform


def build_image_model(config: ImageModelConfig, model_id: str, name: str, device: str = "cpu") -> ImageModel:
    """Return an image model with random weights, in eval mode."""
    return ImageModel(network_of(config).eval().to(device), config, model_id, name)


def network_of(config: ImageModelConfig) -> ImageNetwork:
    """Return a network with random weights."""
    from .image_network import Average, GeM, ImageNetwork

    pooling = GeM(config.gem_p, config.gem_eps) if config.pooling == "GeM" else Average()
    return ImageNetwork(config.architecture, pooling, config.output_dim)


def pooling_of(model_options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `ImageModelConfig` that `model_options` sets.

    Args:
        model_options: {'pooler': 'GeM', 'pooler_options': {'p': 3, 'eps': 1e-6}}, each optional.

    Raises:
        InvalidInput: unknown option, or a value that is not allowed.
    """
    given = options("model_options", model_options, {option["name"]: None for option in MODEL_OPTIONS})
    pooling = given.get("pooler") or "average"
    choice("pooler", pooling, POOLINGS)
    numbers = options("pooler_options", given.get("pooler_options") or {}, {"p": 0.0, "eps": 0.0})
    if numbers and pooling != "GeM":
        raise InvalidInput(f"pooler_options need pooler='GeM'. Got {pooling!r}. Set it, or leave them out.")
    return {
        "pooling": pooling,
        "gem_p": number("pooler_options['p']", numbers.get("p", 3.0), 0.1, 100),
        "gem_eps": number("pooler_options['eps']", numbers.get("eps", 1e-6), 1e-12, 1),
    }
