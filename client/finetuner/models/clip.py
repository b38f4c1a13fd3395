"""Clip: encodes texts and images with an open_clip network, its tokenizer and its preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..exceptions import InvalidInput
from .pixels import batched
from .text.packed_texts import packed_text_features, packs
from .text.text_towers import padding_token

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image

TEXT, VISION = "clip-text", "clip-vision"
TOWERS = (TEXT, VISION)

Tokenizer = Callable[[list[str]], "torch.Tensor"]


class Clip:
    """A CLIP model.

    Args:
        network: open_clip's CLIP or CustomTextCLIP, in eval mode on its device.
        tokenizer: texts -> (texts, context) int64.
        config: open_clip's `model_cfg`, which rebuilds the network.
        model_id: artifact id or backbone name, stored beside each vector.
        files: other files that rebuild the model, by name: a tokenizer that is not open_clip's own, the config of a
            transformers text tower.
        towers: the towers that hold weights.
    """

    short_dims: Sequence[int] = ()
    """Smaller sizes of vectors that the model was trained for, see `contract.dimensions`."""

    def __init__(
        self,
        network: Any,
        tokenizer: Tokenizer,
        config: dict[str, Any],
        model_id: str,
        files: Mapping[str, str] | None = None,
        towers: Sequence[str] = TOWERS,
    ) -> None:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self.network = network
        self.towers = tuple(towers)
        self.tokenizer = tokenizer
        self.config = config
        self.model_id = model_id
        self.files = dict(files or {})
        self.preprocess_config = PreprocessCfg(**network.visual.preprocess_cfg)
        self.preprocess: Callable[[Image], torch.Tensor] = image_transform_v2(self.preprocess_config, is_train=False)
        self.dim = int(config["embed_dim"])

    def __repr__(self) -> str:
        return f"Clip({self.model_id!r}, dim={self.dim})"

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        device: torch.device = self.network.logit_scale.device
        return device

    def encode_texts(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Return (texts, dim) float32, L2-normalised."""
        self._require(TEXT)
        return self._batched(lambda batch: self._text_features(self.tokenizer(list(batch))), texts, batch_size)

    def encode_tokens(self, tokens: Sequence[torch.Tensor], batch_size: int = 32) -> np.ndarray:
        """Return (texts, dim) float32, L2-normalised, for the output of `tokenizer`, (context,) int64 per text."""
        import torch

        self._require(TEXT)
        return self._batched(lambda batch: self._text_features(torch.stack([*batch])), tokens, batch_size)

    def encode_images(self, images: Sequence[Image], batch_size: int = 32) -> np.ndarray:
        """Return (images, dim) float32, L2-normalised."""
        return self.encode_pixels([self.preprocess(image) for image in images], batch_size)

    def encode_pixels(self, pixels: Sequence[torch.Tensor], batch_size: int = 32) -> np.ndarray:
        """Return (images, dim) float32, L2-normalised.

        Args:
            pixels: each (3, size, size), float32 from `preprocess` or uint8 from `pixels.cropped`.
            batch_size: images per forward pass.
        """
        self._require(VISION)
        return self._batched(
            lambda batch: self.network.encode_image(batched(batch, self.preprocess, self.device)), pixels, batch_size
        )

    def forward_of(self, tower: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return a tower's forward pass: (batch, context) int64 tokens, or (batch, 3, size, size) float32 pixels.

        Its output is (batch, dim), not normalised.
        """
        self._require(tower)
        return partial(text_features, self.network) if tower == TEXT else self.network.encode_image

    def _text_features(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = without_padding(self.network, tokens)
        if self.device.type == "cpu" and reads_end_token(self.network) and packs(self.network):
            return packed_text_features(self.network, tokens)
        return text_features(self.network, tokens.to(self.device))

    def _require(self, tower: str) -> None:
        if tower not in self.towers:
            raise InvalidInput(f"this model holds {self.towers[0]} only. Got input for {tower}. Load that tower too.")

    def _batched(self, encode: Callable[[Sequence[Any]], Any], items: Sequence[Any], batch_size: int) -> np.ndarray:
        import numpy as np
        import torch

        if not items:
            return np.empty((0, self.dim), dtype=np.float32)
        with torch.inference_mode():
            batches = [
                torch.nn.functional.normalize(encode(items[start : start + batch_size]).float(), dim=-1)
                for start in range(0, len(items), batch_size)
            ]
            return torch.cat(batches).cpu().numpy()


def with_activation(network: Any, config: Mapping[str, Any]) -> Any:
    """Return a network whose tower of timm has the GELU that `act_kwargs` of its `vision_cfg` names.

    open_clip takes `act_kwargs` for its own towers alone. SigLIP was trained with GELU's tanh approximation, which
    transformers has and most of timm's networks do not.

    Args:
        network: open_clip's, changed in place.
        config: open_clip's `model_cfg`.
    """
    approximate = approximation(config)
    for module in network.visual.trunk.modules() if approximate else ():
        if type(module).__name__ == "GELU":
            module.approximate = approximate
    return network


def approximation(config: Mapping[str, Any]) -> str:
    """Return the approximation of GELU in a tower of timm, 'tanh' or '' for the network's own; see `with_activation`.

    Args:
        config: open_clip's `model_cfg`.
    """
    vision = config["vision_cfg"]
    named = bool(vision.get("timm_model_name")) and (vision.get("act_kwargs") or {}).get("approximate") == "tanh"
    return "tanh" if named else ""


def text_features(network: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return the text tower's output, (batch, dim), not normalised.

    Args:
        network: open_clip's CLIP or CustomTextCLIP.
        tokens: (batch, length) int64, see `without_padding`.
    """
    if reads_end_token(network):
        return causal_text_features(network, tokens)
    features: torch.Tensor = network.encode_text(tokens)
    return features


def without_padding(network: Any, tokens: torch.Tensor, multiple: int = 1) -> torch.Tensor:
    """Return the tokens cut to the longest text, (batch, length), where padding cannot change the tower's output.

    That is so in a causal tower that reads the end token, and in a transformers tower, which masks the padding. The
    output stays the same for a fraction of the work. Other towers get the tokens uncut. On a GPU the cut would wait
    for all work before it: cut first, then copy.

    Args:
        network: open_clip's CLIP or CustomTextCLIP.
        tokens: (batch, context) int64, on the CPU.
        multiple: the length is rounded up to a multiple of it, for fewer different lengths.
    """
    if reads_end_token(network):
        used = int(tokens.argmax(dim=-1).max()) + 1
    elif (padding := padding_token(network)) is not None:
        used = int((tokens != padding).any(dim=0).nonzero().max()) + 1
    else:
        return tokens
    return tokens[:, : -(-used // multiple) * multiple]


def reads_end_token(network: Any) -> bool:
    """Return whether the text tower is causal and reads its output at the end token, the highest id of a text."""
    import open_clip

    return type(network) is open_clip.CLIP and network.text_pool_type == "argmax" and network.attn_mask is not None


def causal_text_features(network: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return `text_features` of a tower that reads the end token.

    Args:
        network: open_clip's CLIP, see `reads_end_token`.
        tokens: (batch, length) int64. Every row holds its end token.
    """
    from open_clip.transformer import text_global_pool

    length = tokens.shape[1]
    dtype = network.transformer.get_cast_dtype()
    x = network.token_embedding(tokens).to(dtype) + network.positional_embedding[:length].to(dtype)
    x = network.transformer(x, attn_mask=network.attn_mask[:length, :length])  # (batch, length, width)
    x = text_global_pool(network.ln_final(x), tokens, "argmax")  # (batch, width)
    projection = network.text_projection
    if projection is not None:
        x = projection(x) if callable(projection) else x @ projection
    pooled: torch.Tensor = x
    return pooled
