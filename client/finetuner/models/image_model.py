"""A model of images alone that is ready to encode: a timm backbone with pooling, head and preprocessing.

It has the face of `clip.Clip` as far as images go, so that what encodes images takes either.
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
MODEL_OPTIONS = ("pooler", "pooler_options")


@dataclass(frozen=True)
class ImagePreprocess:
    """How an image becomes the network's input: resize, crop the centre, scale to [0, 1], normalise."""

    size: int
    """Side of the input, pixels."""
    mean: tuple[float, float, float]
    """Of R, G and B in [0, 1]."""
    std: tuple[float, float, float]
    """The same."""
    interpolation: str = "bicubic"
    """Of the resize: 'bicubic' or 'bilinear'."""
    crop_pct: float = 0.95
    """Share of the shorter side that the centre crop keeps, in (0, 1]."""


@dataclass(frozen=True)
class ImageModelConfig:
    """Everything that builds the network again; its weights come from a file.

    Raises:
        InvalidInput: when made with a value that is not allowed.
    """

    architecture: str
    """timm's name, without tag."""
    preprocess: ImagePreprocess
    """Of the pretrained weights."""
    pooling: str = "average"
    """'average' or 'GeM'."""
    gem_p: float = 3.0
    """GeM's exponent at the start, in [0.1, 100]; it is learnt."""
    gem_eps: float = 1e-6
    """GeM's lower bound of the features, in [1e-12, 1]."""
    output_dim: int | None = None
    """Of the head, 1 to 65,536; None has no head."""

    def __post_init__(self) -> None:
        text("architecture", self.architecture)
        choice("pooler", self.pooling, POOLINGS)
        number("pooler_options['p']", self.gem_p, 0.1, 100)
        number("pooler_options['eps']", self.gem_eps, 1e-12, 1)
        if self.output_dim is not None:
            whole("output_dim", self.output_dim, 1, 65_536)


class ImageModel:
    """A model of images.

    Args:
        network: in eval mode on its device.
        config: that it was built from.
        model_id: what is written beside each vector: an artifact id or a backbone's name.
        name: of its only tower, for example 'resnet50'.
    """

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
        """Where the network lies."""
        return next(self.network.parameters()).device

    def encode_texts(self, texts: Sequence[str], batch_size: int = 32) -> NoReturn:
        """Refuse texts.

        Raises:
            InvalidInput: always.
        """
        raise InvalidInput(f"{self.towers[0]} encodes images only. Got {len(texts)} texts. Choose a CLIP for them.")

    def encode_images(self, images: Sequence[Image], batch_size: int = 32) -> np.ndarray:
        """Return (images, dim) float32, L2-normalised."""
        return self.encode_pixels([self.preprocess(image) for image in images], batch_size)

    def encode_pixels(self, pixels: Sequence[torch.Tensor], batch_size: int = 32) -> np.ndarray:
        """Return (images, dim) float32, L2-normalised.

        Args:
            pixels: each (3, size, size), float32 from `preprocess` or uint8 from `pixels.cropped`.
            batch_size: images a forward pass.
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
    """Return the function from an image to the network's input, (3, size, size) float32."""
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


def build(config: ImageModelConfig, model_id: str, name: str, device: str = "cpu") -> ImageModel:
    """Return the model with random weights, in eval mode."""
    from .image_network import Average, GeM, ImageNetwork

    pooling = GeM(config.gem_p, config.gem_eps) if config.pooling == "GeM" else Average()
    network = ImageNetwork(config.architecture, pooling, config.output_dim)
    return ImageModel(network.eval().to(device), config, model_id, name)


def pooling_of(model_options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `ImageModelConfig` that `model_options` sets.

    Args:
        model_options: {'pooler': 'GeM', 'pooler_options': {'p': 3, 'eps': 1e-6}}, each optional.

    Raises:
        InvalidInput: another option or value.
    """
    given = options("model_options", model_options, dict.fromkeys(MODEL_OPTIONS))
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
