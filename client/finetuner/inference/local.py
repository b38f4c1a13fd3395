"""Opens pretrained and tuned models on this machine and embeds data with them. Never imports jina."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..artifacts.archive import artifact_folder
from ..artifacts.load import load_artifact, load_onnx_artifact
from ..artifacts.manifest import read_manifest
from ..contract.checks import choice, whole
from ..contract.dimensions import checked_dimensions
from ..contract.wire import ARTIFACT_TAG, error_of
from ..documents.uris import read_local
from ..exceptions import FinetunerError, InvalidDocument, InvalidInput
from ..models.backbones import find_backbone
from ..models.clip import TEXT
from ..models.model_kinds import Model, load_row, select_tower, towers_of
from ..progress import bar
from .encoding import encode_documents

if TYPE_CHECKING:
    import numpy as np
    from docarray import Document, DocumentArray

    from ..onnx.model import OnnxModel

    Data = TypeVar("Data", DocumentArray, list[str])


class _DefaultBatchSize(int):
    """The type of the default `batch_size` of `encode`: a number that a caller passes is a plain int."""

    __slots__ = ()


DEFAULT_BATCH_SIZE = _DefaultBatchSize(32)
"""Displays as 32, the default of Finetuner 0.8.1, and means the batch size of the model. An explicit 32 means 32."""
MAX_BATCH = 65_536
ON_ERROR = ("raise", "warn", "return")


@dataclass(frozen=True)
class InferenceModel:
    """One tower of a CLIP, or an image model, ready to encode."""

    encoder: Model | OnnxModel
    """The model, run by torch or by ONNX Runtime."""
    select_model: str
    """'clip-text', 'clip-vision', or the name of an image model, such as 'resnet50'."""
    batch_size: int = 32
    """Documents in a forward pass, 1 to 65,536, unless `encode` is called with another number."""
    origin: Callable[[], AbstractContextManager[Path]] | None = field(default=None, repr=False, compare=False)
    """Opens the folder of the artifact that the model was loaded from. None for a pretrained model."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch_size", whole("batch_size", self.batch_size, 1, MAX_BATCH))

    @property
    def dim(self) -> int:
        """Embedding size."""
        return self.encoder.dim

    @property
    def short_dims(self) -> tuple[int, ...]:
        """Smaller sizes that `encode` may take as `dimensions`, from the largest to the smallest."""
        return tuple(self.encoder.short_dims)

    def export(self, to: str, directory: str | os.PathLike[str], push_to_hub: str | None = None) -> str:
        """Write the whole artifact, with both towers of a CLIP, as a folder that another library loads.

        Args:
            to: 'open_clip' or 'transformers' for a CLIP, 'timm' for an image model, 'sentence-transformers' or 'onnx'
                for both.
            directory: the new folder; it must not exist.
            push_to_hub: 'OWNER/NAME' also sends the folder to the Hugging Face hub, see `export_artifact`.

        Returns:
            Path of the folder.

        Raises:
            InvalidInput: a pretrained model, another `to`, or one whose library cannot hold the model.
            ArtifactNotFound: the artifact has gone, or another one is at its place.
            AlreadyExists, CorruptedArtifact
            FinetunerError: the hub refuses. The folder stays.
        """
        from ..exports.export import export_artifact_to

        if self.origin is None:
            raise InvalidInput(
                f"export needs a tuned or imported model, of get_model. Got {self.encoder.model_id}, a pretrained one. "
                f"Its own library loads it."
            )
        return export_artifact_to(self.origin, to, directory, push_to_hub, self.encoder.model_id)


def build_model(
    name: str,
    model_options: Mapping[str, Any] | None = None,
    batch_size: int = 32,
    select_model: str | None = None,
    device: str | None = None,
    is_onnx: bool = False,
) -> InferenceModel:
    """Load a pretrained backbone, zero-shot.

    Args:
        name: a backbone of `list_models()`, `ARCH::TAG`, or `ARCH::CHECKPOINT` with any path.
        model_options: image models only: 'pooler' ('GeM' or 'average') and 'pooler_options' (p, eps).
        batch_size: documents in a forward pass.
        select_model: 'clip-text' or 'clip-vision'; leave it out for an image model.
        device: a device name of torch; None takes CUDA if available, else the CPU.
        is_onnx: export the model to ONNX, compare the result with torch, and run it by ONNX Runtime.

    Raises:
        NoSuchModel, SelectModelRequired, KeysMismatchError
        FinetunerError: the model cannot be exported to ONNX.
    """
    row = find_backbone(name)
    tower = select_tower(select_model, towers_of(row), name)
    if is_onnx:
        from ..onnx.export import as_onnx

        onnx = as_onnx(load_row(row, "cpu", model_options=model_options), tower, device)
        return InferenceModel(onnx, tower, batch_size)
    return InferenceModel(load_row(row, device or _best_device(), model_options=model_options), tower, batch_size)


def open_artifact(
    path: Path,
    batch_size: int = 32,
    select_model: str | None = None,
    device: str | None = None,
    *,
    is_onnx: bool = False,
) -> InferenceModel:
    """Load a tuned model from an artifact's folder, the folder above it, or its zip.

    Args:
        path: the folder or zip.
        batch_size, select_model, device: see `build_model`.
        is_onnx: run the artifact's ONNX file by ONNX Runtime instead of its weights by torch.

    Raises:
        ArtifactNotFound, CorruptedArtifact, SelectModelRequired, KeysMismatchError
        CorruptedONNXModel: the ONNX file does not hold the model.
    """
    with artifact_folder(path) as folder:
        model = _open_folder(folder, str(path), batch_size, select_model, device, is_onnx)
    return replace(model, origin=partial(artifact_folder, path.absolute()))


def _open_folder(
    folder: Path, name: str, batch_size: int, select_model: str | None, device: str | None, is_onnx: bool
) -> InferenceModel:
    tower = select_tower(select_model, read_manifest(folder).towers, name)
    model = (
        load_onnx_artifact(folder, tower, device)
        if is_onnx
        else load_artifact(folder, device or _best_device(), (tower,))
    )
    return InferenceModel(model, tower, batch_size)


def encode(
    model: InferenceModel,
    data: Data,
    batch_size: int = DEFAULT_BATCH_SIZE,
    *,
    on_error: str | None = None,
    dimensions: int | None = None,
) -> Data | np.ndarray:
    """Embed documents, texts or images.

    Args:
        model: from `get_model` or `build_model`.
        data: a DocumentArray in any storage, whose documents get an `embedding`; or a list of texts (clip-text), or of
            paths and URIs of images (clip-vision and image models). Documents for the other tower are skipped with a
            warning.
        batch_size: documents in a forward pass, 1 to 65,536; the model's own `batch_size` where the argument is left
            out.
        on_error: the reaction to items that cannot be encoded: 'raise' the first error, 'warn', or 'return' silently.
            Such a document gets a `finetuner_error` tag and no embedding; such an item of a list gets a row of NaN.
            None raises for a list and warns for a DocumentArray.
        dimensions: size of the vectors: the model's own, which None means, or one of `model.short_dims`, those that it
            was trained for with `matryoshka_dims`. A short vector is the first numbers, normalised again.

    Returns:
        The same DocumentArray, or (len(data), dimensions) float32, L2-normalised.

    Raises:
        InvalidDocument: an item cannot be encoded, and `on_error` is 'raise'.
        InvalidInput: data has another type, or `on_error`, `batch_size` or `dimensions` another value.
    """
    from docarray import DocumentArray

    if on_error is not None:
        choice("on_error", on_error, ON_ERROR)
    dim = checked_dimensions(dimensions, model.encoder)
    size = (
        model.batch_size if isinstance(batch_size, _DefaultBatchSize) else whole("batch_size", batch_size, 1, MAX_BATCH)
    )
    is_list = not isinstance(data, DocumentArray)
    items = _items(data) if is_list else []
    documents, errors = _documents(items, "text" if model.select_model == TEXT else "uri") if is_list else (data, {})
    with bar("Encoding", len(documents)) as advance:
        for batch, store in _parts(documents, size):
            encode_documents(
                model.encoder,
                batch,
                read_uri=read_local,
                towers=(model.select_model,),
                batch_size=size,
                on_batch=advance,
                dimensions=dim,
            )
            store()
    for row, document in enumerate(documents):
        if row not in errors and (error := _failure(document, model)):
            errors[row] = error
    failed = sorted(errors.items())
    on_error = on_error or ("raise" if is_list else "warn")
    if failed:
        row, error = failed[0]
        item = f"item {row} ({items[row]!r:.82})" if is_list else f"document {row}"
        if on_error == "raise":
            raise type(error)(f"{item}: {error}")
        if on_error == "warn":
            tags = "" if is_list else "; see their finetuner_error tags"
            warnings.warn(
                f"{len(failed)} of {len(documents)} {'items' if is_list else 'documents'} are not encoded{tags}. "
                f"The first is {item}: {error}",
                stacklevel=2,
            )
    return _stacked(documents, dim) if is_list else documents


def _items(data: object) -> list[object]:
    """Return the items of a list, a tuple or another iterable of texts or paths."""
    if isinstance(data, str | bytes | Mapping | os.PathLike) or not isinstance(data, Iterable):
        raise InvalidInput(f"data must be a DocumentArray or a list of strings. Got {type(data).__name__}.")
    return list(data)


def _documents(items: Sequence[object], field: str) -> tuple[DocumentArray, dict[int, FinetunerError]]:
    """Return a document for each item, and the errors of those that are no text, or no path or URI, by row."""
    from docarray import Document, DocumentArray

    documents = DocumentArray()
    errors: dict[int, FinetunerError] = {}
    for row, item in enumerate(items):
        value = os.fspath(item) if isinstance(item, os.PathLike) and field == "uri" else item
        if isinstance(value, str):
            documents.append(Document(**{field: value}))
            continue
        documents.append(Document())
        wanted = "a text" if field == "text" else "a path or a URI"
        hint = "Put documents into a DocumentArray." if isinstance(item, Document) else "Pass a string."
        errors[row] = InvalidDocument(f"item must be {wanted}. Got {type(item).__name__}. {hint}")
    return documents, errors


def _parts(documents: DocumentArray, size: int) -> Iterable[tuple[Sequence[Document], Callable[[], None]]]:
    """Yield documents in memory, each part with the call that stores them; at once if they are in memory.

    Another storage, such as SQLite, gives copies of its documents, of which a part of `size` is in memory at a time.
    """
    from docarray.array.memory import DocumentArrayInMemory

    if isinstance(documents, DocumentArrayInMemory):
        yield documents, lambda: None
        return
    for start in range(0, len(documents), size):
        part = [documents[row] for row in range(start, min(start + size, len(documents)))]

        def store(part: list[Document] = part, start: int = start) -> None:
            for row, document in enumerate(part, start):
                documents[row] = document

        yield part, store


def _failure(document: Document, model: InferenceModel) -> FinetunerError | None:
    error = error_of(document)
    if error is None and document.tags.get(ARTIFACT_TAG) != model.encoder.model_id:
        kind = "a text" if model.select_model == TEXT else "an image"
        return InvalidDocument(f"document must hold {kind} for {model.select_model}. Got none. Choose the other tower.")
    return error


def _stacked(documents: DocumentArray, dim: int) -> np.ndarray:
    import numpy as np

    vectors = np.full((len(documents), dim), np.nan, np.float32)
    for row, document in enumerate(documents):
        if document.embedding is not None:
            vectors[row] = document.embedding
    return vectors


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
