"""Towers in ONNX with int8 weights, and what that costs: recall on pairs, the angle of the embeddings."""

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
    """Write an ONNX file whose matrix products have int8 weights; activations become int8 as they come.

    Weights keep 7 bits and a scale for each column: with 8, sums of 16 bits overflow on CPUs without VNNI, and what was
    measured here would not hold there. Convolutions and the token table stay as they are.

    Args:
        source: model.onnx.
        target: another name in the same folder.

    Returns:
        `target`

    Raises:
        InvalidInput: a model without matrix products by weights, which would stay as it is.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root, silent = logging.getLogger(), logging.NullHandler()
    root.addHandler(
        silent
    )  # the quantiser logs to the root, which without a handler would get one that prints for ever
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
    """Return what int8 costs, a line for each tower and one for recall at 5 where there are pairs.

    Args:
        model: by torch.
        text: its text tower by ONNX Runtime with int8 weights.
        vision: the other one.
        pairs: evaluation data, of which the first `MAX_PAIRS` count.
        texts: examples for where there are no pairs.
        images: the same.
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
    """Both towers with the face that pairs are encoded by."""

    def __init__(self, text: OnnxModel, vision: OnnxModel) -> None:
        self.dim = vision.dim
        self.preprocess = vision.prepare
        self.encode_texts = text.encode_texts
        self.encode_pixels = vision.encode_pixels
