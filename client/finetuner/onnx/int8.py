"""Quantises ONNX towers to int8 weights, and measures the loss of quality."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..evaluation.pairs import encode_pairs, image_to_text, score, text_to_image
from ..exceptions import InvalidInput
from ..models.clip import Clip

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..documents.pairs import Pair
    from .model import OnnxModel

MAX_PAIRS = 1000
K = 5


def quantise(source: Path, target: Path) -> Path:
    """Write an ONNX file whose matrix products have int8 weights. Activations become int8 at run time.

    Weights keep 7 bits and one scale per column. With 8 bits, 16-bit sums overflow on CPUs without VNNI, and quality
    measured here would not hold there. Convolutions and the token table stay in fp32.

    Args:
        source: model.onnx.
        target: another name in the same folder.

    Returns:
        `target`

    Raises:
        InvalidInput: the model has no matrix products with weights to quantise.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)  # the quantiser logs to the root, and logging adds a printing handler to a bare root
    try:
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
    finally:
        root.removeHandler(silent)
    if not any(node.op_type == "MatMulInteger" for node in onnx.load(target).graph.node):
        target.unlink()
        raise InvalidInput(
            f"model must have matrix products for int8. Got {source.parent.name} without any. Leave int8 out."
        )
    return target


def cost_of_int8(
    model: Clip, text: OnnxModel, vision: OnnxModel, pairs: Sequence[Pair], texts: Sequence[str], images: list[Image]
) -> list[str]:
    """Return the loss of quality by int8: one line for each tower, and one for recall at 5 if there are pairs.

    Args:
        model: in torch.
        text: its text tower in ONNX Runtime, with int8 weights.
        vision: its vision tower, likewise.
        pairs: evaluation data. The first `MAX_PAIRS` are used.
        texts: examples for the text tower, used without pairs.
        images: examples for the vision tower, used without pairs.
    """
    lines = []
    if pairs:
        both = [encode_pairs(each, pairs[:MAX_PAIRS]) for each in (model, _Towers(text, vision))]
        before, after = (score(encoded) for encoded in both)
        recalls = (f"{name} {before[name]:.4f} -> {after[name]:.4f}" for name in (text_to_image(K), image_to_text(K)))
        lines = [f"int8 on {len(both[0].text)} texts of evaluation data: {', '.join(recalls)}"]
        vectors = {name: [getattr(encoded, name) for encoded in both] for name in ("text", "vision")}
    else:
        vectors = {
            "text": [each.encode_texts(texts) for each in (model, text)],
            "vision": [each.encode_images(images) for each in (model, vision)],
        }
    for name, (exact, rounded) in vectors.items():
        cosines = (exact * rounded).sum(axis=1)
        lines.append(
            f"int8 of clip-{name}: cosine to fp32 {cosines.mean():.4f} on average, {cosines.min():.4f} at least"
        )
    return lines


class _Towers:
    """Both towers as one model, for `encode_pairs`."""

    def __init__(self, text: OnnxModel, vision: OnnxModel) -> None:
        self.dim = vision.dim
        self.preprocess = vision.prepare
        self.encode_texts = text.encode_texts
        self.encode_pixels = vision.encode_pixels
