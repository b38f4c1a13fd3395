"""A small SigLIP of random weights, whose image tower is a network of timm's that only tests have."""

from __future__ import annotations

from typing import Any

import open_clip
import torch
from timm.models import is_model, register_model
from timm.models.vision_transformer import VisionTransformer
from tokenizers import Tokenizer, models, processors, trainers

from finetuner.models.clip import Clip
from finetuner.models.text.text_towers import FileTokenizer

NAME, KIND, SIZES = "vit_tests_patch16_siglip_32", "tests", (64, 2, 2, 256)
WORDS = [
    "a red dress",
    "Ein blaues Hemd mit langen Ärmeln",
    "striped socks, worn by 12 men's feet in the rain",
    "naïve",
]


def vit_tests_patch16_siglip_32(pretrained: bool = False, **options: Any) -> VisionTransformer:
    """Return timm's vision transformer of SIZES."""
    for name in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "features_only"):
        options.pop(name, None)
    sizes = {"embed_dim": 64, "depth": 2, "num_heads": 2, "patch_size": 16, "img_size": 32}
    return VisionTransformer(**sizes | {"class_token": False, "global_pool": "map"} | options)  # type: ignore[arg-type]


if not is_model(NAME):
    register_model(vit_tests_patch16_siglip_32)


def padded_tokenizer(length: int = 16) -> Tokenizer:
    """Return a tokenizer as SigLIP's: a file that pads, with no token at a text's start."""
    tokenizer = Tokenizer(models.Unigram())
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    tokenizer.train_from_iterator(WORDS * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 1)])
    tokenizer.enable_padding(length=length, pad_id=0, pad_token="<pad>")
    tokenizer.enable_truncation(length)
    return tokenizer


def siglip(activation: str = "tanh", clean: str = "canonicalize") -> Clip:
    """Return a SigLIP. `activation` is that of the text tower."""
    text_cfg = {
        "context_length": 16, "vocab_size": 90, "width": 48, "heads": 2, "layers": 2, "no_causal_mask": True,
        "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}, "hf_tokenizer_name": "elsewhere/siglip",
        "tokenizer_kwargs": {"clean": clean},
    }  # fmt: skip
    if activation == "tanh":
        text_cfg["act_kwargs"] = {"approximate": "tanh"}
    vision_cfg = {"image_size": 32, "timm_model_name": NAME, "timm_pool": "map", "timm_proj": "none"}
    config = {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": vision_cfg,
        "text_cfg": text_cfg,
    }
    torch.manual_seed(0)
    given = {name: value for name, value in config.items() if name != "custom_text"}
    network = open_clip.CustomTextCLIP(**given).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        network.logit_bias += 0.5
        network.visual.trunk.pos_embed.normal_()
    half = (0.5, 0.5, 0.5)
    network.visual.preprocess_cfg = {  # type: ignore[assignment]
        "size": 32, "interpolation": "bicubic", "resize_mode": "squash", "mean": half, "std": half,
    }  # fmt: skip
    content = padded_tokenizer().to_str()
    return Clip(network, FileTokenizer(content, text_cfg), config, "siglip", {"tokenizer.json": content})
