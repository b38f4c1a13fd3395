"""A CLIP as transformers' CLIPModel: its configuration, and the names of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..exceptions import InvalidInput
from ..models.clip import Clip, reads_end_token
from .tokenizer_files import write_tokenizer

if TYPE_CHECKING:
    import torch

BLOCK = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "attn.out_proj.": "self_attn.out_proj.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}
NAMES = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",  # so spelt there
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "logit_scale": "logit_scale",
}
ACTIVATIONS = {
    ("QuickGELU", "none"): "quick_gelu",
    ("GELU", "none"): "gelu",
    ("GELU", "tanh"): "gelu_pytorch_tanh",
}
"""Class of an activation and its approximation -> transformers' name."""
PROJECTIONS = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}
BICUBIC, BILINEAR = 3, 2  # of Pillow


def write_clip_model(model: Clip, folder: Path) -> None:
    """Write a model that `transformers.CLIPModel.from_pretrained(folder)` loads, with its processor.

    Args:
        model: open_clip's CLIP with a plain vision transformer.
        folder: exists.

    Raises:
        InvalidInput: CLIPModel cannot hold the model.
    """
    from transformers import CLIPConfig, CLIPModel

    state = dict(_renamed(model.network.state_dict()))
    config = _config(model)
    config["text_config"] |= write_tokenizer(model, folder)
    other = CLIPModel(CLIPConfig(**config))
    loaded = other.load_state_dict(state, strict=False)
    missing = [name for name in loaded.missing_keys if not name.endswith("position_ids")]
    if missing or loaded.unexpected_keys:
        raise no_clip_model(f"weights of other names ({(missing + loaded.unexpected_keys)[0]})")
    other.save_pretrained(folder)
    write_clip_processor(model, folder)


def write_clip_processor(model: Clip, folder: Path, name: str = "CLIPImageProcessorPil") -> None:
    """Write the image processor of a CLIP whose images are resized by their shortest side and cropped, or to a square.

    Args:
        model: see `vision_config`.
        folder: exists.
        name: transformers' class of it, by Pillow. The file names the same class without 'Pil'.
    """
    import transformers

    preprocess = model.preprocess_config
    side = preprocess.size if isinstance(preprocess.size, int) else preprocess.size[0]
    square = {"height": side, "width": side}
    squash = preprocess.resize_mode == "squash"
    getattr(transformers, name)(
        size=square if squash else {"shortest_edge": side},
        do_center_crop=not squash,
        crop_size=square,
        image_mean=list(preprocess.mean),
        image_std=list(preprocess.std),
        resample=BILINEAR if preprocess.interpolation == "bilinear" else BICUBIC,
    ).save_pretrained(folder)


def _config(model: Clip) -> dict[str, Any]:
    if not reads_end_token(model.network):
        raise no_clip_model(f"{type(model.network).__name__} with {type(model.network.visual).__name__}")
    return {
        "projection_dim": model.dim,
        "text_config": text_config(model),
        "vision_config": vision_config(model),
    }


def text_config(model: Clip) -> dict[str, Any]:
    """Return transformers' configuration of open_clip's own text tower, without the ids of its tokenizer.

    Raises:
        InvalidInput: another text tower.
    """
    tower = end_token_tower(model.network)
    if tower is None:
        raise no_clip_model(f"{type(model.network).__name__} with another text tower")
    return {
        "vocab_size": tower.vocab_size,
        "max_position_embeddings": tower.context_length,
        **_tower(tower.transformer, model.config["text_cfg"]),
    }


def end_token_tower(network: Any) -> Any:
    """Return the part of a network that has open_clip's own causal text tower, which reads the end token, or None."""
    text: Any = getattr(network, "text", None)
    if reads_end_token(network):
        return network
    own = type(text).__name__ == "TextTransformer" and text.pool_type == "argmax" and text.attn_mask is not None
    return text if own and text.cls_emb is None and hasattr(text.text_projection, "T") else None


def vision_config(model: Clip) -> dict[str, Any]:
    """Return transformers' configuration of open_clip's plain vision transformer.

    Raises:
        InvalidInput: another image tower, or images that are prepared in another way.
    """
    visual = model.network.visual
    plain = type(visual).__name__ == "VisionTransformer" and visual.attn_pool is None and visual.pool_type == "tok"
    if not plain:
        raise no_clip_model(f"{type(model.network).__name__} with {type(visual).__name__}")
    preprocess = model.preprocess_config
    if preprocess.resize_mode not in ("shortest", "squash") or len({visual.image_size[0], visual.image_size[1]}) != 1:
        raise no_clip_model(f"images of {visual.image_size}, resized by {preprocess.resize_mode!r}")
    return {
        "image_size": visual.image_size[0],
        "patch_size": visual.patch_size[0],
        **_tower(visual.transformer, model.config["vision_cfg"]),
    }


def tower_state(model: Clip, tower: str) -> dict[str, torch.Tensor]:
    """Return the weights of one tower, 'text' or 'vision', under the names of a CLIPModel, without its projection."""
    network = model.network if tower == "vision" else end_token_tower(model.network)
    own = network.state_dict()
    state = {name: value for name, value in own.items() if name.startswith("visual.") == (tower == "vision")}
    return {name: value for name, value in _renamed(state) if name.startswith(f"{tower}_model.")}


def _tower(transformer: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    width, block = transformer.width, transformer.resblocks[0]
    gelu = block.mlp.gelu
    activation = ACTIVATIONS.get((type(gelu).__name__, getattr(gelu, "approximate", "none")))
    if activation is None:
        raise no_clip_model(f"a tower with {type(gelu).__name__}")
    return {
        "hidden_act": activation,
        "layer_norm_eps": block.ln_1.eps,
        "hidden_size": width,
        "intermediate_size": int(width * given.get("mlp_ratio", 4.0)),
        "num_hidden_layers": transformer.layers,
        "num_attention_heads": block.attn.num_heads,
    }


def _renamed(state: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield open_clip's weights under the names of transformers."""
    for name, value in state.items():
        value = value.detach().cpu().float()
        tower, _, rest = name.rpartition("transformer.resblocks.")
        if name in PROJECTIONS:
            yield PROJECTIONS[name], value.T.contiguous()
        elif name in NAMES:
            yield NAMES[name], value
        elif rest and tower in ("", "visual."):
            number, _, part = rest.partition(".")
            layer = f"{'vision' if tower else 'text'}_model.encoder.layers.{number}."
            if part in ("attn.in_proj_weight", "attn.in_proj_bias"):
                for letter, third in zip("qkv", value.chunk(3), strict=True):
                    yield f"{layer}self_attn.{letter}_proj.{part.rpartition('_')[2]}", third.contiguous()
                continue
            start = next((start for start in BLOCK if part.startswith(start)), None)
            if start is None:
                raise no_clip_model(f"layers with {part}")
            yield layer + BLOCK[start] + part.removeprefix(start), value
        else:
            raise no_clip_model(f"weights named {name}")


def no_clip_model(found: str) -> InvalidInput:
    """Return the error about a part that no CLIPModel has."""
    return InvalidInput(
        f"transformers needs an open_clip CLIP with a plain vision transformer. Got {found}. Take to='open_clip' "
        f"or to='sentence-transformers'."
    )
