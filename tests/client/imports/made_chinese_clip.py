"""A small ChineseCLIPModel of transformers with random weights, and its tokenizer, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import BertTokenizer, ChineseCLIPConfig, ChineseCLIPImageProcessorPil, ChineseCLIPModel

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "dress", "##es", *"红色的连衣裙蓝衬衫\uff0c,。"]
TEXTS = ["红色的连衣裙", "蓝衬衫\uff0c红裙。", "蓝衬衫,红裙", "a red DRESSES", "", "红色的蓝" * 30, "unknown &amp; 词"]
TEXT = {
    "vocab_size": 30, "hidden_size": 32, "intermediate_size": 60, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 64,
}  # fmt: skip
VISION = {
    "hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip


def write_chinese_clip(folder: Path, *, vocabulary: bool = True, **vision: Any) -> Any:
    """Write the model into an existing folder, and return it.

    Args:
        folder: exists.
        vocabulary: its tokenizer is a vocab.txt alone, as on the hub, and not the tokenizer.json of today.
        vision: other values of the image tower.
    """
    torch.manual_seed(0)
    config = ChineseCLIPConfig(text_config=dict(TEXT), vision_config=VISION | vision, projection_dim=24)
    model = ChineseCLIPModel(config).eval()
    model.save_pretrained(folder)
    ChineseCLIPImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    if not vocabulary:
        tokenizer = BertTokenizer.from_pretrained(folder)
        tokenizer.model_max_length = 20
        tokenizer.save_pretrained(folder)
        (folder / "vocab.txt").unlink()
    return model
