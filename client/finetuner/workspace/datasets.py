"""Stored datasets: parquet parts of documents, in a folder per content hash, found by name.

An upload has a folder of its own until all its parts have arrived and the count is right. Then one rename publishes it.
Its parts stay until then, so an interrupted upload can resume. Documents are stored as protobuf, never as pickles.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.checks import checked_name
from ..documents import stream
from ..documents.content import DOCUMENTS, check_documents, content_digest, kind_of
from ..exceptions import DatasetNotFound, InvalidInput
from .folder import DAMAGE, Pointers, Workspace, publish_folder, remove

if TYPE_CHECKING:
    from docarray import DocumentArray

DESCRIPTION = "dataset.json"
MAX_PARTS = 1_000_000
ABANDONED = 7 * 24 * 3600.0  # seconds without a new part after which an upload is removed
HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Dataset:
    """One dataset."""

    name: str
    """Its name for users."""
    version: str
    """SHA-256 of its documents in order, without their ids, in hex."""
    documents: int
    """Number of documents."""
    size: int
    """Size of its documents, in bytes of protobuf."""
    created_at: float
    """Seconds since the epoch."""
    stream_size: int = 0
    """Size of its `stream`, header and padding included, in bytes; 0 if unknown."""
    kind: str = ""
    """'pairs', 'scored pairs' or 'labelled' if all documents are of that kind, else 'documents'."""


class Datasets:
    """The datasets of a workspace.

    Args:
        workspace: holds the datasets, in `datasets/`.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._folder = workspace.datasets
        self._names = Pointers(self._folder / "names", "dataset", _from_dict)

    def add_part(
        self,
        upload: str,
        part: int,
        documents: DocumentArray,
        first: int = 0,
        admit: Callable[[int], None] | None = None,
    ) -> None:
        """Store one part of an upload; a part that is sent again replaces the first.

        Args:
            upload: any string, chosen by the client.
            part: number of the part, from 0.
            documents: at least one; see `content.check_document`.
            first: position of the first document in the dataset, for messages.
            admit: gets the bytes of the part before anything is written, and may raise.

        Raises:
            InvalidInput: no documents, or a part number out of range.
            InvalidDocument: a document without content, or a pair with a missing side.
        """
        import pyarrow as pa
        import pyarrow.parquet

        if not len(documents) or not 0 <= part < MAX_PARTS:
            raise InvalidInput(f"part must be numbered in [0, {MAX_PARTS}) and hold documents. Got {len(documents)}.")
        check_documents(documents, first)
        content = [document.to_bytes(protocol="protobuf") for document in documents]
        if admit is not None:
            admit(sum(map(len, content)))
        folder = self.upload_folder(upload)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".part-{part:07d}"
        with open(temporary, "wb") as file:
            pyarrow.parquet.write_table(
                pa.table({"id": [document.id for document in documents], "document": content}),
                file,
                compression="zstd",
            )
            file.flush()
            os.fsync(file.fileno())  # a part that exists is complete, also after a crash: no client sends it again
        temporary.replace(folder / f"part-{part:07d}.parquet")

    def uploaded(self, upload: str) -> list[int]:
        """Return the numbers of the parts of an upload that have arrived."""
        return sorted(
            int(path.stem.removeprefix("part-")) for path in self.upload_folder(upload).glob("part-*.parquet")
        )

    def holds(self, version: str) -> bool:
        """Return whether this content is stored already, so a commit needs no upload."""
        try:
            return bool(HASH.fullmatch(version)) and self._read_description(version).version == version
        except (*DAMAGE, OSError):  # pushed again, the content replaces it
            return False

    def forget(self, upload: str) -> None:
        """Remove the parts of an upload."""
        shutil.rmtree(self.upload_folder(upload), ignore_errors=True)

    def commit(self, name: str, upload: str, documents: int, version: str = "") -> Dataset:
        """Publish a complete upload as the dataset `name`, replacing a dataset of that name.

        Args:
            name: 1 to 128 letters, digits, '.', '_' or '-'.
            upload: with all its parts.
            documents: number of documents in all parts.
            version: expected SHA-256 of the content; content that is stored already needs no upload.

        Raises:
            InvalidInput: an invalid name, missing parts, or content with another hash.
        """
        checked_name(name, "dataset name")
        folder, content = self.upload_folder(upload), version
        if not self.holds(version):
            measured = _measured(folder, name)
            if not documents or measured.documents != documents:
                raise InvalidInput(
                    f"dataset {name!r} must be committed with all its documents, at least one. "
                    f"Got {measured.documents} of {documents}. Send the missing parts again."
                )
            if version not in ("", measured.version):
                self.forget(upload)
                raise InvalidInput(
                    f"dataset {name!r} must have the content that its upload began with. Got another: files have "
                    f"changed during the upload. Push it again."
                )
            content = measured.version
            if not self.holds(content):
                (folder / DESCRIPTION).write_text(json.dumps(asdict(measured)))
                if (self._folder / content).exists():
                    remove(self._folder / content)
                publish_folder(folder, self._folder / content)
        self.forget(upload)
        self._forget_old_uploads()
        dataset = replace(self._read_description(content), name=name, created_at=time.time())
        self._names.set(name, asdict(dataset))
        return dataset

    def _read_description(self, version: str) -> Dataset:
        """Return the stored description of a version. Its ids, and so its size, may be those of an earlier push."""
        return _from_dict(json.loads((self._folder / version / DESCRIPTION).read_text()))

    def _forget_old_uploads(self) -> None:
        for folder in (self._folder / "uploads").glob("*"):
            if folder.stat().st_mtime < time.time() - ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)

    def upload_folder(self, upload: str) -> Path:
        """Return the folder of an unfinished upload, which may not exist."""
        return self._folder / "uploads" / hashlib.sha256(upload.encode()).hexdigest()

    def find(self, name: str) -> Dataset:
        """Return the dataset of a name.

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
        return target

    def unchanged(self, name: str, version: str) -> Dataset:
        """Return the dataset of a name, which still has the version that a caller has seen.

        Raises:
            DatasetNotFound: none of that name.
            InvalidInput: it has another version.
        """
        current = self.find(name)
        if current.version != version:
            raise InvalidInput(
                f"version must be {current.version}, the dataset's. Got {version[:80]!r}. It has changed meanwhile: "
                "look at it again."
            )
        return current

    def all(self) -> list[Dataset]:
        """Return every dataset, sorted by name."""
        return [dataset for _, dataset in self._names.all()]

    def problems(self) -> list[str]:
        """Return one sentence for each name that cannot be read."""
        return self._names.problems()

    def delete(self, name: str) -> Dataset:
        """Delete a name, and its content and decoded images unless another name has them.

        Raises:
            DatasetNotFound: none of that name.
        """
        dataset = self.find(name)
        self._names.delete(name)
        if all(other.version != dataset.version for other in self.all()):
            remove(self._folder / dataset.version)
            for path in self._workspace.pixels.glob(f"{dataset.version}-*"):
                path.unlink(missing_ok=True)
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
        """Return the documents of one part; none beyond the last part.

        Raises:
            DatasetNotFound: no dataset of this version.
        """
        from docarray import Document, DocumentArray

        self._require(version)
        parts = self.parts(version)[number : number + 1]
        return DocumentArray(Document.from_bytes(content, protocol="protobuf") for content in _read(parts))

    def page(self, version: str, offset: int, limit: int) -> DocumentArray:
        """Return at most `limit` documents of a version, starting at position `offset`.

        Raises:
            DatasetNotFound: no dataset of this version.
        """
        from docarray import Document, DocumentArray

        self._require(version)
        contents = islice(_read_from(self.parts(version), offset), limit)
        return DocumentArray(Document.from_bytes(content, protocol="protobuf") for content in contents)

    def _require(self, version: str) -> None:
        if not HASH.fullmatch(version) or not (self._folder / version).is_dir():
            raise DatasetNotFound(f"version must be a dataset's content hash. Got {version[:80]!r}, which is not here.")


def _from_dict(described: dict[str, Any]) -> Dataset:
    known = {field.name for field in fields(Dataset)}
    dataset = Dataset(**{name: value for name, value in described.items() if name in known})
    if not HASH.fullmatch(dataset.version) or dataset.documents < 1 or dataset.size < 0 or dataset.created_at < 0:
        raise ValueError(f"{dataset!r:.200}")
    return dataset


def _measured(folder: Path, name: str) -> Dataset:
    """Return the description of the parts in a folder, computed from their documents."""
    from docarray import Document

    digest, kinds, count, size, packed = hashlib.sha256(), set(), 0, 0, stream.HEADER.size
    for content in _contents(folder):
        digest.update(content_digest(content))
        kinds.add(kind_of(Document.from_bytes(content, protocol="protobuf")))
        count, size, packed = count + 1, size + len(content), packed + stream.packed_size(len(content))
    version = digest.hexdigest()
    kind = kinds.pop() if len(kinds) == 1 else DOCUMENTS
    return Dataset(name, version, count, size, time.time(), packed + stream.padding(version), kind)


def _contents(folder: Path) -> Iterator[bytes]:
    return _read(sorted(folder.glob("part-*.parquet")))


def _read_from(parts: Iterable[Path], offset: int) -> Iterator[bytes]:
    """Yield documents, starting at position `offset`. Earlier parts are not read, except for their counts."""
    import pyarrow.parquet

    for path in parts:
        count = pyarrow.parquet.read_metadata(path).num_rows
        if offset < count:
            yield from islice(_read([path]), offset, None)
        offset = max(offset - count, 0)


def _read(parts: Iterable[Path]) -> Iterator[bytes]:
    import pyarrow.parquet

    for path in parts:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256, columns=["document"]):
                yield from batch.column("document").to_pylist()
