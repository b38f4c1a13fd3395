"""Exports the towers of a model to ONNX, and compares each file with torch before anyone uses it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim

from ..documents.pairs import Pair
from ..exceptions import FinetunerError
from ..models.clip import TEXT, TOWERS, Clip, causal_text_features, reads_end_token
from ..models.model_kinds import Model
from ..models.text.text_towers import padding_token
from .file_check import check_onnx
from .int8 import cost_of_int8, quantise
from .model import INT8_FILE, ONNX_FILE, OnnxModel
from .session import EMBEDDINGS, PADDING, PIXELS, TOKENS, SessionOptions, open_session

MAX_DIFFERENCE = 1e-3
MAX_BYTES = 2**31 - 2**24  # a protobuf holds at most 2 GiB, and the graph takes some of it
TEXTS = ("a red dress", "ein blaues Hemd mit langen Ärmeln, gestreift", "shoes", "", "a striped shirt " * 100)
BATCH_SIZES = (1, 2, 5)


@dataclass(frozen=True)
class _Tower:
    """A tower, as the exporter needs it."""

    network: nn.Module
    """The module that holds its weights."""
    features: Callable[[Any, torch.Tensor], torch.Tensor]
    """(network, input) -> (batch, dim), not normalised."""
    kind: str
    """Kind of its input: TOKENS or PIXELS."""
    example: torch.Tensor
    """An input of batch size 2."""
    size: int
    """Size of its weights in bytes."""
    padding: int | None = None
    """Padding token of a text tower that takes any length. None for fixed lengths and for images."""


class _Normalised(nn.Module):
    def __init__(self, tower: _Tower) -> None:
        super().__init__()
        self.network, self.features = tower.network, tower.features

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return (batch, dim) float32, L2-normalised."""
        return nn.functional.normalize(self.features(self.network, batch).float(), dim=-1)


def export_onnx(model: Model, folder: Path) -> dict[str, float]:
    """Write `<folder>/<tower>/model.onnx` for each tower that the model holds, and compare it with torch.

    Args:
        model: in eval mode. It moves to the CPU for the export, and back.
        folder: an artifact's `models/`.

    Returns:
        Tower -> largest absolute difference between its embeddings and torch's, at most `MAX_DIFFERENCE`.

    Raises:
        FinetunerError: a tower exceeds 2 GiB, cannot be exported, or differs from torch by more.
    """
    device = model.device
    model.network.to("cpu")
    try:
        return {tower: _export(model, tower, folder / tower / ONNX_FILE) for tower in model.towers}
    finally:
        model.network.to(device)


def export_int8(model: Clip, folder: Path, pairs: Sequence[Pair] = ()) -> list[str]:
    """Write `<folder>/<tower>/model-int8.onnx` beside each file of `export_onnx`.

    Args:
        model: with both towers.
        folder: an artifact's `models/`.
        pairs: evaluation data.

    Returns:
        Lines about the loss of quality, see `cost_of_int8`.
    """
    text, vision = (
        _open(model, tower, quantise(folder / tower / ONNX_FILE, folder / tower / INT8_FILE)) for tower in TOWERS
    )
    return cost_of_int8(model, text, vision, pairs, TEXTS, _images(max(BATCH_SIZES)))


def as_onnx(
    model: Model,
    tower: str,
    device: str | None = None,
    *,
    int8: bool = False,
    session_options: SessionOptions | None = None,
) -> OnnxModel:
    """Export one tower of a model and return it, run by ONNX Runtime.

    Args:
        model: in eval mode, on the CPU.
        tower: one of the model's towers.
        device: see `session.providers`.
        int8: quantise the weights to int8.
        session_options: see `session.open_session`.

    Raises:
        FinetunerError: see `export_onnx`.
        InvalidInput: ONNX Runtime does not have the device.
    """
    with tempfile.TemporaryDirectory(prefix="finetuner-") as folder:
        file = Path(folder) / ONNX_FILE
        _export(model, tower, file)
        if int8:
            file = quantise(file, file.with_name(INT8_FILE))
        return _open(model, tower, file, device, session_options)


def _export(model: Model, name: str, file: Path) -> float:
    tower = _tower(model, name)
    if tower.size > MAX_BYTES:
        raise FinetunerError(
            f"{name} must have less than 2 GiB of weights for ONNX. Got {tower.size / 2**30:.1f} GiB. "
            f"Leave to_onnx out, or take a smaller model."
        )
    shape = {0: Dim("batch")} if tower.padding is None else {0: Dim("batch"), 1: Dim("length")}
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch's, about its own code
            program = torch.onnx.export(
                _Normalised(tower).eval(),
                (tower.example,),
                dynamo=True,
                verbose=False,
                dynamic_shapes=(shape,),
                input_names=[tower.kind],
                output_names=[EMBEDDINGS],
            )
        assert program is not None
        if tower.padding is not None:
            program.model.metadata_props[PADDING] = str(tower.padding)
        program.save(file, external_data=False)
        check_onnx(file)  # as `load_onnx` does
    except Exception as error:  # any error of the exporter, or a missing package
        reason = " ".join(str(error).split())[:300]
        raise FinetunerError(f"{name} must be exportable to ONNX. Got: {reason}. Leave to_onnx out.") from error
    difference = _difference(model, _open(model, name, file))
    if not difference <= MAX_DIFFERENCE:  # also true for NaN
        raise FinetunerError(
            f"{name} in ONNX must differ from torch by at most {MAX_DIFFERENCE:g}. Got {difference:.2g}. "
            f"Leave to_onnx out."
        )
    return difference


def _tower(model: Model, name: str) -> _Tower:
    network: Any = model.network
    if not isinstance(model, Clip) or name != TEXT:
        visual = network.visual if isinstance(model, Clip) else network
        pixels = torch.stack([model.preprocess(image) for image in _images(2)])
        return _Tower(visual, nn.Module.__call__, PIXELS, pixels, _size_of(visual))
    size = _size_of(network) - (0 if network.visual is None else _size_of(network.visual))
    tokens = model.tokenizer(list(TEXTS[:2]))
    if reads_end_token(network):
        return _Tower(network, causal_text_features, TOKENS, tokens, size, padding=0)
    return _Tower(network, lambda clip, batch: clip.encode_text(batch), TOKENS, tokens, size, padding_token(network))


def _size_of(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in network.state_dict().values())


def _open(
    model: Model, name: str, file: Path, device: str | None = "cpu", session_options: SessionOptions | None = None
) -> OnnxModel:
    is_text = name == TEXT
    prepare = model.tokenizer if is_text and isinstance(model, Clip) else model.preprocess
    session = open_session(file, TOKENS if is_text else PIXELS, model.dim, device, session_options)
    return OnnxModel(session, name, model.model_id, prepare, file.stat().st_size)


def _difference(model: Model, onnx: OnnxModel) -> float:
    """Return the largest absolute difference from torch, over several batch sizes and text lengths."""
    if onnx.towers[0] == TEXT:
        pairs = [(model.encode_texts(TEXTS[:size]), onnx.encode_texts(TEXTS[:size])) for size in BATCH_SIZES]
    else:
        images = _images(max(BATCH_SIZES))
        pairs = [(model.encode_images(images[:size]), onnx.encode_images(images[:size])) for size in BATCH_SIZES]
    return float(max(np.abs(ours - theirs).max() for ours, theirs in pairs))


def _images(count: int) -> list[Any]:
    """Return `count` images of noise, 48 x 32 pixels, each on a colour of its own."""
    from PIL import Image

    generator = np.random.default_rng(0)
    colours = generator.integers(0, 192, (count, 1, 1, 3), dtype=np.uint8)
    noise = generator.integers(0, 64, (count, 48, 32, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in colours + noise]
