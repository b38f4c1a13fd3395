"""OnnxModel: encodes texts or images with one tower in ONNX Runtime, without torch's weights.

models/<tower>/model.onnx, and model-int8.onnx of runs with `to_onnx='int8'`, have one input and one output, of any
batch size:

pixels      (batch, 3, size, size) float32, preprocessed
tokens      (batch, length) int64; any length, if the file's property `padding` names the padding token
embeddings  (batch, dim) float32, L2-normalised
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..exceptions import ArtifactNotFound, InvalidInput
from ..models.clip import TEXT
from ..models.clip_files import load_tokenizer, read_clip_config
from ..models.image_model import image_transform
from ..models.image_weights import holds_image_model, read_image_config
from ..models.pixels import batched
from .file_check import check_onnx
from .session import EMBEDDINGS, PADDING, PIXELS, TOKENS, SessionOptions, open_session

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

ONNX_FILE, INT8_FILE = "model.onnx", "model-int8.onnx"


class OnnxModel:
    """One tower of a model.

    Args:
        session: from `open_session`.
        tower: 'clip-text', 'clip-vision', or the name of an image model.
        model_id: artifact id or backbone name, stored beside each vector.
        prepare: texts -> (texts, context) int64, or one image -> (3, size, size) float32.
        size: of the file in bytes.
    """

    short_dims: Sequence[int] = ()
    """Smaller sizes of vectors that the model was trained for, see `contract.dimensions`."""

    def __init__(
        self, session: Any, tower: str, model_id: str, prepare: Callable[[Any], torch.Tensor], size: int = 0
    ) -> None:
        self.session = session
        self.towers = (tower,)
        self.model_id = model_id
        self.prepare = prepare
        self.bytes = size
        self.dim = int(session.get_outputs()[0].shape[1])
        padding = session.get_modelmeta().custom_metadata_map.get(PADDING)
        self._padding = None if padding is None else int(padding)

    def __repr__(self) -> str:
        return f"OnnxModel({self.model_id!r}, {self.towers[0]!r}, dim={self.dim})"

    def encode_texts(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Return (texts, dim) float32, L2-normalised."""
        self._require(TOKENS)
        return self._batched(lambda batch: self._cut(self.prepare(list(batch)).numpy()), texts, batch_size)

    def encode_tokens(self, tokens: Sequence[torch.Tensor], batch_size: int = 32) -> np.ndarray:
        """Return (texts, dim) float32, L2-normalised, for the output of `prepare`, (context,) int64 per text."""
        self._require(TOKENS)
        return self._batched(lambda batch: self._cut(np.stack([text.numpy() for text in batch])), tokens, batch_size)

    def encode_images(self, images: Sequence[Image], batch_size: int = 32) -> np.ndarray:
        """Return (images, dim) float32, L2-normalised."""
        self._require(PIXELS)
        return self.encode_pixels([self.prepare(image) for image in images], batch_size)

    def encode_pixels(self, pixels: Sequence[torch.Tensor], batch_size: int = 32) -> np.ndarray:
        """Return (images, dim) float32, L2-normalised.

        Args:
            pixels: each (3, size, size), float32 from `prepare` or uint8 from `pixels.cropped`.
            batch_size: images per forward pass.
        """
        self._require(PIXELS)
        return self._batched(lambda batch: batched(batch, self.prepare, "cpu").numpy(), pixels, batch_size)

    def _require(self, kind: str) -> None:
        if self.session.get_inputs()[0].name != kind:
            raise InvalidInput(f"this model holds {self.towers[0]} only. Got {kind}. Load the other tower.")

    def _cut(self, tokens: np.ndarray) -> np.ndarray:
        """Cut tokens to the batch's longest text, if the tower takes any length."""
        if self._padding is None:
            return tokens
        return tokens[:, : int((tokens != self._padding).any(axis=0).nonzero()[0].max(initial=0)) + 1]

    def _batched(
        self, prepare: Callable[[Sequence[Any]], np.ndarray], items: Sequence[Any], batch_size: int
    ) -> np.ndarray:
        vectors = [np.empty((0, self.dim), dtype=np.float32)]
        name = self.session.get_inputs()[0].name
        for start in range(0, len(items), batch_size):
            vectors += self.session.run([EMBEDDINGS], {name: prepare(items[start : start + batch_size])})
        return np.concatenate(vectors)


def load_onnx(
    folder: Path,
    tower: str,
    model_id: str,
    dim: int,
    device: str | None = None,
    *,
    int8: bool = False,
    session_options: SessionOptions | None = None,
) -> OnnxModel:
    """Load one tower of an artifact from its ONNX file.

    Args:
        folder: an artifact's `models/`.
        tower: one of the artifact's towers.
        model_id: artifact id or backbone name, stored beside each vector.
        dim: embedding size.
        device: see `session.providers`.
        int8: load the file with int8 weights.
        session_options: see `session.open_session`.

    Raises:
        ArtifactNotFound: the artifact has no such ONNX file.
        CorruptedONNXModel: the file does not hold this tower.
        InvalidInput: ONNX Runtime does not have the device.
    """
    file = folder / tower / (INT8_FILE if int8 else ONNX_FILE)
    if not file.is_file():
        option, to_onnx = ("precision int8", "'int8'") if int8 else ("is_onnx=True", "True")
        raise ArtifactNotFound(
            f"artifact must hold models/{tower}/{file.name} for {option}. Got {model_id} without it. "
            f"Tune it with fit(to_onnx={to_onnx}), or leave {option.split('=')[0]} out."
        )
    check_onnx(file)
    session = open_session(file, TOKENS if tower == TEXT else PIXELS, dim, device, session_options)
    return OnnxModel(session, tower, model_id, _prepare(folder, tower), file.stat().st_size)


def _prepare(folder: Path, tower: str) -> Callable[[Any], torch.Tensor]:
    if holds_image_model(folder):
        return image_transform(read_image_config(folder)[1].preprocess)
    config = read_clip_config(folder)
    if tower == TEXT:
        return load_tokenizer(folder, config["model_cfg"])
    from open_clip.transform import PreprocessCfg, image_transform_v2

    transform: Callable[[Any], torch.Tensor] = image_transform_v2(
        PreprocessCfg(**config["preprocess_cfg"]), is_train=False
    )
    return transform
