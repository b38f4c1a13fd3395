"""Runs a loaded model for a lane: turns documents into items, and items into embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from docarray import Document

from finetuner.documents.images import UriReader, decode, from_tensor, image_file, image_of
from finetuner.exceptions import FinetunerError, FinetunerServerError, InvalidInput
from finetuner.inference.encoding import text_of
from finetuner.models.acceleration import compile_network, prefer_onednn
from finetuner.models.clip import TEXT, VISION, Clip
from finetuner.models.image_model import ImageModel
from finetuner.models.pixels import batched, cropped, stacked
from finetuner.onnx.model import OnnxModel

from .settings import EngineSettings

if TYPE_CHECKING:
    from .graphs import Graphs

NORM_TOLERANCE = 1e-3
JPEG = b"\xff\xd8\xff"
LONG = 2**11  # characters of a text; a tokenizer reads all of 100,000 in 0.2 s, and keeps less than a hundred tokens


class Runner:
    """One tower of a model.

    Args:
        model: loaded model, on its device.
        tower: 'clip-text' for texts; any other value for images.
        settings: precision, compilation and draft decoding of a forward pass.
        batch_size: most items of a forward pass.

    Raises:
        InvalidInput: a precision that the device does not support.
    """

    def __init__(
        self, model: Clip | ImageModel | OnnxModel, tower: str, settings: EngineSettings, batch_size: int = 1
    ) -> None:
        self.model_id = model.model_id
        self.dim = model.dim
        self.short_dims = model.short_dims
        self.tower = tower
        self.reads_texts = tower == TEXT
        self.prepares_beside = not self.reads_texts
        """Whether other threads prepare documents while the model runs; tokens would wait for the same cores."""
        self._batch_size = batch_size
        self._precision: Callable[[], AbstractContextManager[Any]] = nullcontext
        if isinstance(model, OnnxModel):
            self.bytes = model.bytes
            tokenizer: Callable[..., Any] = model.prepare
            preprocess: Callable[..., Any] = model.prepare
        else:
            prefer_onednn(model.network)
            if model.device.type == "cuda":
                self.prepares_beside = True
                _prepare_gpu(model.network)
            self._precision = _with_precision(model, tower, settings.precision)
            self.bytes = sum(value.nbytes for value in model.network.state_dict().values())
            tokenizer = getattr(model, "tokenizer", _no_tokenizer)
            preprocess = model.preprocess
        self._tokenizer, self._preprocess = tokenizer, preprocess
        self._encode: Callable[..., np.ndarray] = (
            getattr(model, "encode_tokens", _no_tokenizer) if self.reads_texts else model.encode_pixels
        )
        self._side = 0
        self._fast_jpeg = settings.fast_jpeg
        self._decoder = None if isinstance(model, OnnxModel) or self.reads_texts else _gpu_decoder(model, settings)
        if settings.draft and not self.reads_texts:
            grey = from_tensor(np.zeros((32, 32), np.uint8))
            self._side = settings.draft * max(cropped(self._preprocess, grey).shape[1:])
        self._graphs: Graphs | None = None
        if not isinstance(model, OnnxModel):
            if settings.compile:
                _compile(model, self.reads_texts)
            if settings.cuda_graphs:
                self._graphs = self._recorded(model)

    def __repr__(self) -> str:
        return f"Runner({self.model_id!r}, dim={self.dim})"

    def gathers(self, document: Document, blob: bytes | None) -> bool:
        """Return whether `prepare_all` prepares a document in less time with others: a text, or a JPEG for the GPU.

        Args:
            document: of this tower.
            blob: content of its URI, if that was fetched.
        """
        if self.reads_texts or self._decoder is None:
            return self.reads_texts
        file = blob or document.blob
        return file.startswith(JPEG) if file else document.uri.startswith("data:image/jpeg")

    def prepare_all(self, documents: Sequence[Document], blobs: Sequence[bytes | None]) -> list[Any]:
        """Return the item, or the error, of each document that `gathers` has said yes to; None for `prepare` to do.

        Args:
            documents: of this tower.
            blobs: content of each one's URI, if that was fetched.
        """
        if self.reads_texts:
            return self._all_tokens(documents)
        files: list[Any] = [
            attempt(image_file, document, lambda _, blob=blob: blob or b"")
            for document, blob in zip(documents, blobs, strict=True)
        ]
        assert self._decoder is not None
        return self._decoder(files)

    def _all_tokens(self, documents: Sequence[Document]) -> list[Any]:
        items: list[Any] = [attempt(text_of, document) for document in documents]
        short = [row for row, text in enumerate(items) if isinstance(text, str) and len(text) <= LONG]
        for row, text in enumerate(items):
            if isinstance(text, str) and len(text) > LONG:
                items[row] = attempt(self._tokens, text)
        try:
            tokens = self._tokenizer([items[row] for row in short]) if short else ()
        except Exception:  # of one text, which the others shall not pay for
            tokens = [attempt(self._tokens, items[row]) for row in short]
        for row, item in zip(short, tokens, strict=True):
            items[row] = item
        return items

    def prepare(self, document: Document, read_uri: UriReader) -> Any:
        """Return the item: (context,) int64 tokens, or (3, size, size) uint8 pixels, both torch tensors.

        Raises:
            InvalidDocument: the document cannot be encoded.
        """
        if self.reads_texts:
            return self._tokens(text_of(document))
        import torch

        blob = image_file(document, read_uri) if self._fast_jpeg else None
        if blob is not None:
            from .jpeg_pixels import jpeg_pixels  # imports torchvision

            found = jpeg_pixels(self._preprocess, blob)
            if found is not None:
                return found
        image = image_of(document, read_uri, self._side) if blob is None else decode(blob)
        pixels = cropped(self._preprocess, image)
        return torch.from_numpy(np.ascontiguousarray(pixels))

    def _tokens(self, text: str) -> Any:
        """Return the tokens of a text. Of a long one, no more is read than fills the model's context."""
        head, blank, _ = text[:LONG].rpartition(" ") if len(text) > LONG else ("", "", "")
        if blank:
            padding, hidden = self._padding
            tokens = self._tokenizer([head])[0]
            if not hidden and int(tokens[-1]) != padding:
                return tokens
        return self._tokenizer([text])[0]

    def lengths(self, items: Sequence[Any]) -> list[int]:
        """Return the number of tokens of each text without the padding at its end, or 0 for each image."""
        if not self.reads_texts:
            return [0] * len(items)
        tokens = np.stack([item.numpy() for item in items])
        return [end + 1 for end in _ends(tokens != tokens[:, -1:])]

    def counts(self, items: Sequence[Any]) -> list[int]:
        """Return the number of tokens that the model reads of each text, with those at start and end."""
        padding, hidden = self._padding
        return [end + hidden for end in _ends(np.stack([item.numpy() for item in items]) != padding)]

    @cached_property
    def _padding(self) -> tuple[int, int]:
        """The token that pads texts, and 1 if it is the one at their end, so that it hides there."""
        texts = [self.prepare(Document(text=text), _no_uri).numpy() for text in ("a", "b")]
        padding = int(texts[0][-1])
        ends = {int(tokens[tokens != padding][-1]) for tokens in texts}
        return padding, len(ends) - 1

    def run(self, items: Sequence[Any]) -> np.ndarray:
        """Return embeddings, (items, dim) float32, L2-normalised, from one forward pass."""
        vectors = None if self._graphs is None else self._graphs.run(items)
        if vectors is not None:
            return vectors
        with self._precision():
            return self._encode(items, batch_size=len(items))

    def check(self) -> None:
        """Warm up by encoding a canary, a text or a grey ramp: a full batch of it, then it alone.

        Raises:
            FinetunerServerError: the embedding has the wrong size, or its norm is not 1.
        """
        item = self._canary()
        if self._batch_size > 1:
            self.run([item] * self._batch_size)
        vectors = self.run([item])
        if vectors.shape != (1, self.dim) or not abs(float(np.linalg.norm(vectors)) - 1) < NORM_TOLERANCE:
            raise FinetunerServerError(
                f"{self.model_id} must encode a canary to {self.dim} numbers of length 1. "
                f"Got {vectors.shape[1:]} of length {float(np.linalg.norm(vectors)):g}. It is not used."
            )

    def _canary(self) -> Any:
        """Return an item of a text or a grey ramp."""
        ramp = np.linspace(0, 255, 32, dtype=np.uint8)
        document = Document(text="a canary") if self.reads_texts else Document(tensor=np.tile(ramp, (32, 1)))
        return self.prepare(document, _no_uri)

    def _recorded(self, model: Clip | ImageModel) -> Graphs:
        if model.device.type != "cuda":
            raise InvalidInput(f"cuda_graphs needs a room on a GPU. Got device {model.device.type}. Leave it out.")
        from .graphs import Graphs

        stack: Callable[[Sequence[Any]], Any] = partial(stacked, device=model.device)
        if not self.reads_texts:
            stack = partial(batched, preprocess=model.preprocess, device=model.device)
        return Graphs(model.forward_of(self.tower), stack, self._canary(), self._batch_size, self._precision)


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns, or the error that it raises."""
    try:
        return function(*arguments)
    except FinetunerError as error:
        return error.with_traceback(None)  # its frames refer to the document in a cycle, which is freed late
    except Exception as error:  # unexpected: it is logged with its traceback
        return error


def _ends(used: np.ndarray) -> list[int]:
    """Return the position after the last True of each row, 0 where there is none, of (rows, columns) bool."""
    ends: list[int] = np.where(used.any(axis=1), used.shape[1] - used[:, ::-1].argmax(axis=1), 0).tolist()
    return ends


def _gpu_decoder(model: Clip | ImageModel, settings: EngineSettings) -> Callable[[Sequence[Any]], list[Any]] | None:
    """Return a decoder of JPEGs on the model's GPU, or None where it has none, or where nobody asked for it."""
    if not settings.fast_jpeg or model.device.type != "cuda":
        return None
    from .gpu_jpeg import GpuDecoder  # imports torchvision

    return GpuDecoder.find(model.preprocess, model.device)


def _with_precision(model: Clip | ImageModel, tower: str, name: str) -> Callable[[], AbstractContextManager[Any]]:
    """Convert a model to a precision in place. Return the factory of the context for each forward pass."""
    if name == "fp32":
        return nullcontext
    import torch
    from open_clip.model import convert_weights_to_lp
    from open_clip.transformer import VisionTransformer

    kind = model.device.type
    visual = getattr(model.network, "visual", None) if tower == VISION else None
    if kind == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        if name == "bf16" and not has_bf16:
            raise InvalidInput(f"precision must be fp32 on {torch.cuda.get_device_name()}. Got bf16, which it lacks.")
    else:
        multiplies = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        has_bf16 = kind == "cpu" and multiplies and isinstance(visual, VisionTransformer)  # others are not faster
    if name == "auto" and not has_bf16:
        return nullcontext
    if kind == "cpu" and isinstance(visual, VisionTransformer):
        # Autocast would disable the fast path of attention, and bf16 would take four times as long.
        convert_weights_to_lp(visual, torch.bfloat16)
        visual.register_forward_pre_hook(lambda _, pixels: (pixels[0].to(torch.bfloat16),))
        return nullcontext
    return lambda: torch.autocast(kind, dtype=torch.bfloat16)


def _prepare_gpu(network: Any) -> None:
    """Let convolutions read images in the order that a GPU prefers, and compute fp32 as fp32, not as tf32."""
    import torch

    network.to(memory_format=torch.channels_last)
    torch.backends.cudnn.allow_tf32 = False


def _compile(model: Clip | ImageModel, reads_texts: bool) -> None:
    network: Any = model.network
    part = network if isinstance(model, ImageModel) else _text_tower(network) if reads_texts else network.visual
    compile_network(part, dynamic=True)


def _text_tower(network: Any) -> Any:
    return network.transformer if hasattr(network, "transformer") else network.text


def _no_tokenizer(*_: Any, **__: Any) -> Any:
    raise InvalidInput("model must be a CLIP to encode texts. Got a model of images. Name another artifact.")


def _no_uri(uri: str) -> bytes:
    raise AssertionError(uri)
