"""Towers of a CLIP, and image models, as modules of sentence-transformers: a network, and the layers after it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..exceptions import InvalidInput
from ..models.clip import Clip
from ..models.text.text_towers import TEXT_CONFIG_FILE, FileTokenizer
from ..models.weights import write_weights
from .clip_model import end_token_tower, text_config, tower_state, vision_config, write_clip_processor
from .sentence_modules import BY_PILLOW, WEIGHTS_FILE, Layer, Module, pooling, transformer
from .timm_folder import MAX_DIFFERENCE, write_timm_config
from .tokenizer_files import write_padded_tokenizer, write_tokenizer

if TYPE_CHECKING:
    import torch

    from ..models.image_model import ImageModel

TEXT_KINDS = ("bert", "roberta", "xlm-roberta")
POOLINGS = {"MeanPooler": "mean", "ClsLastHiddenStatePooler": "cls"}  # open_clip's class -> mode of Pooling
CROPS = {"shortest": "center", "squash": "squash"}  # open_clip's resize_mode -> timm's crop_mode
POOLED = ("forward", "pooler_output")


def text_modules(model: Clip) -> list[Module]:
    """Return the text tower of a CLIP: one of transformers, or open_clip's own that reads the end token.

    Raises:
        InvalidInput: another tower, pooling or tokenizer.
    """
    if (own := end_token_tower(model.network)) is not None:
        write = partial(_write_end_token_text, model)
        layers = [Layer(own.text_projection.detach().T.float())]
        return [transformer(write, {"text": POOLED}, "sentence_embedding"), *_modules(layers)]
    text: Any = getattr(model.network, "text", model.network)
    if type(text).__name__ != "HFTextEncoder" or text.config.model_type not in TEXT_KINDS:
        raise _not_held(f"the text tower {type(text).__name__}")
    kind = type(text.pooler).__name__
    if not isinstance(model.tokenizer, FileTokenizer) or (model.config["text_cfg"].get("tokenizer_kwargs") or {}).get(
        "strip_sep_token"
    ):
        raise _not_held("a tokenizer that replaces tokens")
    write = partial(_write_text, model)
    if kind not in POOLINGS:
        raise _not_held(f"a text tower with {kind}")
    unused = {"model_kwargs": {"add_pooling_layer": False}}  # BERT's pooler, which has no weights here
    tower = transformer(write, {"text": ("forward", "last_hidden_state")}, "token_embeddings", **unused)
    return [tower, pooling(int(text.config.hidden_size), POOLINGS[kind]), *_modules(_layers(text.proj))]


def vision_modules(model: Clip) -> list[Module]:
    """Return the image tower of a CLIP: one of timm, or open_clip's plain vision transformer.

    Raises:
        InvalidInput: another tower, or one that timm computes otherwise.
    """
    visual = model.network.visual
    if type(visual).__name__ == "VisionTransformer":
        layers = [Layer(visual.proj.detach().T.float())]
        write = partial(_write_vision, model, vision_config(model))
        tower = transformer(write, {"image": POOLED}, "sentence_embedding", processor_kwargs=BY_PILLOW)
        return [tower, *_modules(layers)]
    if type(visual).__name__ != "TimmModel":
        raise _not_held(f"the image tower {type(visual).__name__}")
    preprocess, vision = model.preprocess_config, model.config["vision_cfg"]
    if preprocess.resize_mode not in CROPS:
        raise _not_held(f"images resized by {preprocess.resize_mode!r}")
    size = preprocess.size if isinstance(preprocess.size, int) else preprocess.size[0]
    described = {
        "size": size,
        "interpolation": "bilinear" if preprocess.interpolation == "bilinear" else "bicubic",
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "crop_pct": 1.0,
        "crop_mode": CROPS[preprocess.resize_mode],
    }
    classifier = visual.trunk.get_classifier()
    name = next((key for key, part in visual.trunk.named_modules() if part is classifier), "")
    layers = [*_layers(classifier), *(layer for part in visual.head.children() for layer in _layers(part))]
    pool = vision.get("timm_pool") or "avg"
    return _timm_modules(vision["timm_model_name"], visual.trunk, visual, layers, described, pool, f"{name}.")


def image_modules(model: ImageModel) -> list[Module]:
    """Return an image model, whose head's batch norms become a part of its linear layers.

    Raises:
        InvalidInput: GeM pooling, or a network that timm computes otherwise.
    """
    config, network = model.config, model.network
    if config.pooling != "average":
        raise _not_held(f"an image model with pooling {config.pooling}")
    head: Any = network.head
    steps = list(head) if config.output_dim is not None else []
    layers = []
    if steps:
        first, first_norm, _, last, last_norm = steps
        layers = [_folded(first, first_norm, "ReLU"), _folded(last, last_norm, "Identity")]
    own = config.preprocess
    described = {
        "size": own.size,
        "interpolation": own.interpolation,
        "mean": list(own.mean),
        "std": list(own.std),
        "crop_pct": own.crop_pct,
        "crop_mode": "center",
    }
    return _timm_modules(config.architecture, network.features, network, layers, described, "avg")


def _timm_modules(
    architecture: str,
    trunk: Any,
    whole: Callable[[torch.Tensor], torch.Tensor],
    layers: Sequence[Layer],
    preprocess: Mapping[str, Any],
    pool: str,
    classifier: str = ".",
) -> list[Module]:
    """Return a network of timm and its layers, if they compute the same as `whole`, on one input."""
    import timm
    import torch

    size = preprocess["size"]
    state = {name: value for name, value in trunk.state_dict().items() if not name.startswith(classifier)}
    with torch.inference_mode():
        canary = torch.linspace(-1, 1, 3 * size**2).view(1, 3, size, size)
        expected = torch.nn.functional.normalize(whole(canary), dim=-1)
    # timm's own form; with another pooling; and with the final norm before the pooling, as one that was changed later
    for arguments in ({}, {"global_pool": pool}, {"global_pool": pool, "fc_norm": False}):
        try:
            with torch.random.fork_rng(devices=[]):
                other: Any = timm.create_model(architecture, num_classes=0, **arguments).eval()
            other.load_state_dict(state)
            with torch.inference_mode():
                found = other.forward_head(other.forward_features(canary))
                for layer in layers:
                    found = layer(found)
        except (TypeError, ValueError, AssertionError, RuntimeError):  # arguments that this network does not have
            continue
        found = torch.nn.functional.normalize(found, dim=-1)
        if found.shape == expected.shape and float((found - expected).abs().max()) <= MAX_DIFFERENCE:
            write = partial(_write_timm, architecture, other, preprocess, arguments)
            return [transformer(write, {"image": POOLED}, "sentence_embedding"), *_modules(layers)]
    raise _not_held(f"{architecture}, which timm alone computes otherwise")


def _layers(part: Any) -> list[Layer]:
    """Return the linear layers of a projection of open_clip or timm."""
    kind = type(part).__name__
    if kind in ("Identity", "Dropout"):
        return []
    if kind == "Linear":
        bias = None if part.bias is None else part.bias.detach().float()
        return [Layer(part.weight.detach().float(), bias)]
    linear = [one for one in part.modules() if type(one).__name__ == "Linear"]
    others = [type(one).__name__ for one in part.modules() if type(one).__name__ not in ("Linear", "Dropout", kind)]
    exact = all(getattr(one, "approximate", "none") == "none" for one in part.modules())
    if kind in ("Sequential", "Mlp") and len(linear) == 2 and set(others) <= {"GELU", "Identity"} and exact:
        (hidden,), (last,) = _layers(linear[0]), _layers(linear[1])
        return [Layer(hidden.weight, hidden.bias, "GELU"), last]
    raise _not_held(f"a projection by {kind}")


def _folded(linear: Any, norm: Any, activation: str) -> Layer:
    """Return a linear layer and the batch norm after it, as in eval mode, as one layer."""
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()  # (outputs,)
    weight = linear.weight.detach().double() * scale[:, None]
    bias = (linear.bias.detach().double() - norm.running_mean.double()) * scale + norm.bias.detach().double()
    return Layer(weight.float(), bias.float(), activation)


def _modules(layers: Sequence[Layer]) -> list[Module]:
    return [layer.module for layer in layers]


def _write_text(model: Clip, folder: Path) -> None:
    config = json.loads(model.files[TEXT_CONFIG_FILE])
    config.pop("torch_dtype", None)
    (folder / TEXT_CONFIG_FILE).write_text(json.dumps(config | {"dtype": "float32"}, indent=1))
    write_weights(model.network.text.transformer.float(), folder / WEIGHTS_FILE)
    write_padded_tokenizer(model, folder, ("input_ids", "attention_mask"))


def _write_end_token_text(model: Clip, folder: Path) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = text_config(model) | write_tokenizer(model, folder)
    _save(CLIPTextModel(CLIPTextConfig(**config)), tower_state(model, "text"), folder)


def _write_vision(model: Clip, config: Mapping[str, Any], folder: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    _save(CLIPVisionModel(CLIPVisionConfig(**config)), tower_state(model, "vision"), folder)
    write_clip_processor(model, folder)


def _save(other: Any, state: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Save a tower of transformers, whose names may have the prefix of a whole CLIPModel or not."""
    own = set(other.state_dict())
    given = {name if name in own else name.partition(".")[2]: value for name, value in state.items()}
    loaded = other.load_state_dict(given, strict=False)
    if wrong := [name for name in (*loaded.missing_keys, *loaded.unexpected_keys) if "position_ids" not in name]:
        raise _not_held(f"weights of other names ({wrong[0]})")
    other.save_pretrained(folder)


def _write_timm(
    architecture: str, network: Any, preprocess: Mapping[str, Any], arguments: Mapping[str, Any], folder: Path
) -> None:
    write_timm_config(folder, architecture, int(network.num_features), preprocess, arguments)
    write_weights(network, folder / WEIGHTS_FILE)


def _not_held(found: str) -> InvalidInput:
    return InvalidInput(
        f"to='sentence-transformers' needs towers that its modules hold: text towers of {', '.join(TEXT_KINDS)} or "
        f"CLIP's own, image towers of timm or a plain vision transformer. Got {found}. Take to='onnx'."
    )
