"""A SigLIP as transformers' SiglipModel: its configuration, and the names of its weights in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..exceptions import InvalidInput, KeysMismatchError
from ..models.clip import Clip
from .tokenizer_files import write_padded_tokenizer

if TYPE_CHECKING:
    import torch

ACTIVATIONS = {"none": "gelu", "tanh": "gelu_pytorch_tanh"}  # torch's approximation -> transformers' name
TEXT_BLOCKS, VISION_BLOCKS = "text.transformer.resblocks.", "visual.trunk.blocks."
LAYERS = {"text": "text_model.encoder.layers.", "vision": "vision_model.encoder.layers."}
NAMES = {
    "text.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "text.positional_embedding": "text_model.embeddings.position_embedding.weight",
    "text.ln_final.": "text_model.final_layer_norm.",
    "text.text_projection.": "text_model.head.",
    "visual.trunk.pos_embed": "vision_model.embeddings.position_embedding.weight",
    "visual.trunk.patch_embed.proj.": "vision_model.embeddings.patch_embedding.",
    "visual.trunk.norm.": "vision_model.post_layernorm.",
    "visual.trunk.attn_pool.latent": "vision_model.head.probe",
    "visual.trunk.attn_pool.proj.": "vision_model.head.attention.out_proj.",
    "visual.trunk.attn_pool.norm.": "vision_model.head.layernorm.",
    "visual.trunk.attn_pool.mlp.": "vision_model.head.mlp.",
    "logit_scale": "logit_scale",
    "logit_bias": "logit_bias",
}
"""Names of weights, or, with a full stop at the end, beginnings of names: open_clip's -> transformers'."""
TEXT_LAYER = {
    "ln_1.": "layer_norm1.", "ln_2.": "layer_norm2.", "attn.out_proj.": "self_attn.out_proj.",
    "mlp.c_fc.": "mlp.fc1.", "mlp.c_proj.": "mlp.fc2.",
}  # fmt: skip
VISION_LAYER = {"norm1.": "layer_norm1.", "norm2.": "layer_norm2.", "attn.proj.": "self_attn.out_proj.", "mlp.": "mlp."}
JOINED = {"text": "attn.in_proj_", "vision": "attn.qkv."}  # queries, keys and values of a layer, in one matrix
POOL, HEAD = "visual.trunk.attn_pool.", "vision_model.head.attention.in_proj_"
MAX_DIFFERENCE = 1e-4  # of a number of an embedding
BICUBIC, BILINEAR = 3, 2  # of Pillow


def is_siglip(model: Clip) -> bool:
    """Return whether a model has the parts of a SigLIP: timm's image tower with attention pooling, and a bias."""
    trunk = getattr(model.network.visual, "trunk", None)
    return getattr(trunk, "attn_pool", None) is not None and getattr(model.network, "logit_bias", None) is not None


def write_siglip_model(model: Clip, folder: Path) -> None:
    """Write a model that `transformers.SiglipModel.from_pretrained(folder)` loads, with processor and tokenizer.

    Args:
        model: of SigLIP's architecture, see `is_siglip`.
        folder: exists.

    Raises:
        InvalidInput: SiglipModel cannot hold the model. Its output is compared on one input.
    """
    import torch
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    preprocess = model.preprocess_config
    size = [preprocess.size] * 2 if isinstance(preprocess.size, int) else list(preprocess.size)
    if preprocess.resize_mode != "squash":
        raise _no_siglip_model(f"images resized by {preprocess.resize_mode!r}")
    state = to_siglip({name: value.detach().cpu().float() for name, value in model.network.state_dict().items()})
    with torch.random.fork_rng(devices=[]):  # its weights are random at first
        other = SiglipModel(SiglipConfig(**_config(model))).eval()
    loaded = other.load_state_dict(state, strict=False)
    if wrong := [name for name in (*loaded.missing_keys, *loaded.unexpected_keys) if "position_ids" not in name]:
        raise _no_siglip_model(f"weights of other names ({wrong[0]})")
    write_padded_tokenizer(model, folder)
    _compare(model, other)
    other.save_pretrained(folder)
    SiglipImageProcessorPil(
        size={"height": size[0], "width": size[1]},
        image_mean=list(preprocess.mean),
        image_std=list(preprocess.std),
        resample=BILINEAR if preprocess.interpolation == "bilinear" else BICUBIC,
    ).save_pretrained(folder)


def to_siglip(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return open_clip's weights under the names of SiglipModel.

    Raises:
        InvalidInput: a name that a SigLIP does not have.
    """
    import torch

    found: dict[str, torch.Tensor] = {}
    pool = {
        name.removeprefix(POOL): value for name, value in state.items() if name.startswith((POOL + "q.", POOL + "kv."))
    }
    for kind in ("weight", "bias"):
        if f"q.{kind}" in pool and f"kv.{kind}" in pool:
            found[HEAD + kind] = torch.cat([pool.pop(f"q.{kind}"), pool.pop(f"kv.{kind}")])
    for name, value in state.items():
        tower, start = ("text", TEXT_BLOCKS) if name.startswith(TEXT_BLOCKS) else ("vision", VISION_BLOCKS)
        if name.startswith(start):
            number, _, part = name.removeprefix(start).partition(".")
            layer = f"{LAYERS[tower]}{number}."
            if part.startswith(JOINED[tower]):
                kind = part.removeprefix(JOINED[tower])
                found |= {
                    f"{layer}self_attn.{letter}_proj.{kind}": third.contiguous()
                    for letter, third in zip("qkv", value.chunk(3), strict=True)
                }
                continue
            renamed = _renamed(part, TEXT_LAYER if tower == "text" else VISION_LAYER)
            renamed = renamed and layer + renamed
        elif name.startswith(POOL) and name.removeprefix(POOL).partition(".")[0] in ("q", "kv"):
            continue
        else:
            renamed = _renamed(name, NAMES)
        if renamed is None:
            raise _no_siglip_model(f"weights named {name}")
        found[renamed] = value
    if pool:
        raise _no_siglip_model(f"weights named {POOL}{next(iter(pool))}")
    positions = NAMES["visual.trunk.pos_embed"]
    if positions in found:
        found[positions] = found[positions][0]
    return found | {name: found[name].reshape(1) for name in ("logit_scale", "logit_bias") if name in found}


def from_siglip(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of a SiglipModel under open_clip's names: the inverse of `to_siglip`.

    Raises:
        KeysMismatchError: a name that a SiglipModel does not have.
    """
    import torch

    found: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in state.items():
        if name.endswith(".position_ids"):  # in files of older versions
            continue
        tower, _, rest = name.partition("_model.encoder.layers.")
        if rest and tower in LAYERS:
            blocks = TEXT_BLOCKS if tower == "text" else VISION_BLOCKS
            number, _, part = rest.partition(".")
            letter, _, kind = part.removeprefix("self_attn.").partition("_proj.")
            if part.startswith("self_attn.") and letter in ("q", "k", "v"):
                parts.setdefault(f"{blocks}{number}.{JOINED[tower]}{kind}", {})[letter] = value
                continue
            renamed = _renamed(part, _inverse(TEXT_LAYER if tower == "text" else VISION_LAYER))
            renamed = renamed and f"{blocks}{number}.{renamed}"
        elif name.startswith(HEAD) and value.shape[0] % 3 == 0:
            kind, third = name.removeprefix(HEAD), value.shape[0] // 3
            found |= {f"{POOL}q.{kind}": value[:third].contiguous(), f"{POOL}kv.{kind}": value[third:].contiguous()}
            continue
        else:
            renamed = _renamed(name, _inverse(NAMES))
        if renamed is None:
            raise KeysMismatchError(
                f"weights must have the names of transformers' SiglipModel. Got {name!r:.120}. Import a whole "
                f"SiglipModel, without adapters."
            )
        found[renamed] = value
    for name, letters in parts.items():
        if len(letters) == 3 and len({value.shape for value in letters.values()}) == 1:
            found[name] = torch.cat([letters[letter] for letter in "qkv"])
    if (positions := found.get("visual.trunk.pos_embed")) is not None:
        found["visual.trunk.pos_embed"] = positions[None]
    scalars = {name: found[name] for name in ("logit_scale", "logit_bias") if name in found}
    return found | {name: value.reshape(()) for name, value in scalars.items() if value.numel() == 1}


def _renamed(name: str, names: Mapping[str, str]) -> str | None:
    """Return the other library's name of a weight, None if it has none."""
    start = next((one for one in names if name == one or (one.endswith(".") and name.startswith(one))), None)
    return None if start is None else names[start] + name.removeprefix(start)


def _inverse(names: Mapping[str, str]) -> dict[str, str]:
    return {theirs: ours for ours, theirs in names.items()}


def _config(model: Clip) -> dict[str, Any]:
    network, config = model.network, model.config
    text, trunk = getattr(network, "text", None), network.visual.trunk
    blocks = getattr(getattr(text, "transformer", None), "resblocks", None)
    plain = (
        blocks is not None
        and text.pool_type == "last"
        and text.attn_mask is None
        and text.text_projection is not None
        and type(trunk).__name__ == "VisionTransformer"
        and trunk.num_prefix_tokens == 0
        and not len(network.visual.head)
    )
    if not plain or blocks is None:
        raise _no_siglip_model(f"{type(text).__name__} with {type(trunk).__name__}")
    first, block = blocks[0], trunk.blocks[0]
    return {
        "text_config": {
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.context_length,
            "hidden_size": text.width,
            "intermediate_size": first.mlp.c_fc.out_features,
            "num_hidden_layers": len(blocks),
            "num_attention_heads": first.attn.num_heads,
            "projection_size": int(config["embed_dim"]),
            "hidden_act": _activation(text.transformer),
            "layer_norm_eps": first.ln_1.eps,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        },
        "vision_config": {
            "image_size": trunk.patch_embed.img_size[0],
            "patch_size": trunk.patch_embed.patch_size[0],
            "hidden_size": trunk.embed_dim,
            "intermediate_size": block.mlp.fc1.out_features,
            "num_hidden_layers": len(trunk.blocks),
            "num_attention_heads": block.attn.num_heads,
            "hidden_act": _activation(trunk),
            "layer_norm_eps": block.norm1.eps,
        },
    }


def _activation(tower: Any) -> str:
    """Return transformers' name of a tower's only activation."""
    kinds = {"gelu": 0, "gelu_pytorch_tanh": 0}
    for module in tower.modules():
        name = type(module).__name__
        if name == "GELU":
            kinds[ACTIVATIONS[getattr(module, "approximate", "none")]] += 1
        elif name == "GELUTanh":  # of timm
            kinds["gelu_pytorch_tanh"] += 1
    used = [kind for kind, count in kinds.items() if count]
    if len(used) != 1:
        raise _no_siglip_model(f"a tower with {len(used)} kinds of GELU")
    return used[0]


def _compare(model: Clip, other: Any) -> None:
    """Compare the outputs of both networks on one input."""
    import torch

    vision, text = other.config.vision_config, other.config.text_config
    pixels = torch.linspace(-1, 1, 3 * vision.image_size**2).view(1, 3, vision.image_size, -1)
    tokens = (torch.arange(text.max_position_embeddings) % text.vocab_size)[None]
    with torch.inference_mode():
        theirs = other(input_ids=tokens, pixel_values=pixels)
        for tower, given, found in (
            ("clip-vision", pixels, theirs.image_embeds),
            ("clip-text", tokens, theirs.text_embeds),
        ):
            own = torch.nn.functional.normalize(model.forward_of(tower)(given.to(model.device)).float(), dim=-1)
            difference = float((own.cpu() - found).abs().max())
            if not difference <= MAX_DIFFERENCE:
                raise _no_siglip_model(f"a {tower} tower whose embeddings differ by {difference:.1e}")


def _no_siglip_model(found: str) -> InvalidInput:
    return InvalidInput(
        f"transformers needs a SigLIP with timm's plain vision transformer and images resized to a square. Got "
        f"{found}. Take to='open_clip' or to='onnx'."
    )
