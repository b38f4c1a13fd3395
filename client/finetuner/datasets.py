"""Datasets at rest: parquet parts of documents, called by their content, found by name.

An upload lies apart until its last part is there and the count is right; then it gets its final name in
one step. Documents are protobuf, never pickles.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .exceptions import DatasetNotFound, InvalidInput
from .pairs import read_pair, read_pairs
from .workspace import Pointers, Workspace, checked_name, publish_folder, remove

if TYPE_CHECKING:
    from docarray import DocumentArray

DESCRIPTION = "dataset.json"
MAX_PARTS = 1_000_000


@dataclass(frozen=True)
class Dataset:
    """One dataset."""

    name: str
    """What users call it."""
    version: str
    """SHA-256 of its captions, pictures and tags in their order, hex."""
    documents: int
    """How many."""
    size: int
    """Bytes of its documents."""
    created_at: float
    """Seconds since the epoch."""


class Datasets:
    """The datasets of a workspace.

    Args:
        workspace: holds them below `datasets/`.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._folder = workspace.datasets
        self._names = Pointers(self._folder / "names")

    def add_part(self, upload: str, part: int, documents: DocumentArray) -> None:
        """Store one part of an upload; the same part again replaces itself.

        Args:
            upload: any string that the client chose for this upload.
            part: its number, from 0.
            documents: pairs, at least one.

        Raises:
            InvalidInput: no document, a part number out of range, or a document that is no pair.
        """
        import pyarrow as pa
        import pyarrow.parquet

        if not len(documents) or not 0 <= part < MAX_PARTS:
            raise InvalidInput(f"part must be numbered in [0, {MAX_PARTS}) and hold documents. Got {len(documents)}.")
        read_pairs(documents)
        content = [document.to_bytes(protocol="protobuf") for document in documents]
        folder = self._upload(upload)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".part-{part:07d}"
        pyarrow.parquet.write_table(
            pa.table({"id": [document.id for document in documents], "document": content}),
            temporary,
            compression="zstd",
        )
        temporary.replace(folder / f"part-{part:07d}.parquet")

    def commit(self, name: str, upload: str, documents: int) -> Dataset:
        """Make a whole upload the dataset called `name`; a dataset of that name is replaced.

        Raises:
            InvalidInput: a wrong name, or another number of documents than arrived.
        """
        checked_name(name, "dataset name")
        folder = self._upload(upload)
        digest, count, size = hashlib.sha256(), 0, 0
        for content in _contents(folder):
            digest.update(_meaning(content))
            count, size = count + 1, size + len(content)
        if not documents or count != documents:
            raise InvalidInput(
                f"dataset {name!r} must be committed with all its documents, at least one. "
                f"Got {count} of {documents}. Send the missing parts again."
            )
        dataset = Dataset(name, digest.hexdigest(), count, size, time.time())
        final = self._folder / dataset.version
        if final.is_dir():
            shutil.rmtree(folder)
        else:
            (folder / DESCRIPTION).write_text(json.dumps(asdict(dataset)))
            publish_folder(folder, final)
        self._names.set(name, asdict(dataset))
        return dataset

    def _upload(self, upload: str) -> Path:
        return self._folder / "uploads" / hashlib.sha256(upload.encode()).hexdigest()

    def find(self, name: str) -> Dataset:
        """Return the dataset that a name means now.

        Raises:
            DatasetNotFound: none of that name.
        """
        target = self._names.get(name)
        if target is None:
            known = ", ".join(dataset.name for dataset in self.all()) or "none"
            raise DatasetNotFound(
                f"data must be a DocumentArray or the name of a dataset. Got {name!r}, which is neither a dataset "
                f"here ({known}) nor documents. Push it with finetuner.push_data."
            )
        return Dataset(**target)

    def all(self) -> list[Dataset]:
        """Return every dataset, sorted by name."""
        return [Dataset(**target) for _, target in self._names.all()]

    def delete(self, name: str) -> Dataset:
        """Forget a name, and the content if no other name means it.

        Raises:
            DatasetNotFound: none of that name.
        """
        dataset = self.find(name)
        self._names.delete(name)
        if all(other.version != dataset.version for other in self.all()):
            remove(self._folder / dataset.version)
        return dataset

    def parts(self, version: str) -> list[Path]:
        """Return the parquet files of a version, in order."""
        return sorted((self._folder / version).glob("part-*.parquet"))

    def documents(self, version: str) -> Iterator[Any]:
        """Yield the documents of a version in order."""
        from docarray import Document

        for content in _contents(self._folder / version):
            yield Document.from_bytes(content, protocol="protobuf")

    def part(self, version: str, number: int) -> DocumentArray:
        """Return the documents of one part, none past the last."""
        from docarray import Document, DocumentArray

        parts = self.parts(version)[number : number + 1]
        return DocumentArray(Document.from_bytes(content, protocol="protobuf") for content in _read(parts))


def _meaning(content: bytes) -> bytes:
    """Return what makes two documents the same: caption, picture and tags, but not ids, which are often random."""
    from docarray import Document

    document = Document.from_bytes(content, protocol="protobuf")
    pair = read_pair(document)
    return json.dumps([pair.text, pair.image_id, dict(document.tags)], sort_keys=True).encode() + b"\n"


def _contents(folder: Path) -> Iterator[bytes]:
    return _read(sorted(folder.glob("part-*.parquet")))


def _read(parts: Iterable[Path]) -> Iterator[bytes]:
    import pyarrow.parquet

    for path in parts:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256, columns=["document"]):
                yield from batch.column("document").to_pylist()
