"""Datasets at rest: parquet parts of documents, called by their content, found by name.

An upload lies apart until its last part is there and the count is right; then it gets its final name in
one step. Its parts stay until then, so that an upload that broke off can go on. Documents are protobuf, never
pickles.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.checks import checked_name
from ..documents import stream
from ..documents.content import DOCUMENTS, check_documents, content_digest, kind_of
from ..exceptions import DatasetNotFound, InvalidInput
from .folder import Pointers, Workspace, publish_folder, remove

if TYPE_CHECKING:
    from docarray import DocumentArray

DESCRIPTION = "dataset.json"
MAX_PARTS = 1_000_000
FORGOTTEN = 7 * 24 * 3600.0  # seconds after which an upload that nobody goes on with is removed
HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Dataset:
    """One dataset."""

    name: str
    """What users call it."""
    version: str
    """SHA-256 of its documents in their order, but not of their ids, hex."""
    documents: int
    """How many."""
    size: int
    """Bytes of its documents."""
    created_at: float
    """Seconds since the epoch."""
    stream_size: int = 0
    """Bytes of its documents as `stream` packs them, header and padding included; 0 where it was never measured."""
    kind: str = ""
    """'pairs', 'scored pairs', 'labelled' where all documents are that, else 'documents'."""


class Datasets:
    """The datasets of a workspace.

    Args:
        workspace: holds them below `datasets/`.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._folder = workspace.datasets
        self._names = Pointers(self._folder / "names")

    def add_part(self, upload: str, part: int, documents: DocumentArray, first: int = 0) -> None:
        """Store one part of an upload; the same part again replaces itself.

        Args:
            upload: any string that the client chose for this upload.
            part: its number, from 0.
            documents: at least one; see `content.check_document`.
            first: position of the first document in the whole, for messages.

        Raises:
            InvalidInput: no document or a part number out of range.
            InvalidDocument: a document without content, or a pair with a missing side.
        """
        import pyarrow as pa
        import pyarrow.parquet

        if not len(documents) or not 0 <= part < MAX_PARTS:
            raise InvalidInput(f"part must be numbered in [0, {MAX_PARTS}) and hold documents. Got {len(documents)}.")
        check_documents(documents, first)
        content = [document.to_bytes(protocol="protobuf") for document in documents]
        folder = self._upload(upload)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".part-{part:07d}"
        with open(temporary, "wb") as file:
            pyarrow.parquet.write_table(
                pa.table({"id": [document.id for document in documents], "document": content}),
                file,
                compression="zstd",
            )
            file.flush()
            os.fsync(file.fileno())  # a part that is there is whole, also after a crash: nobody sends it again
        temporary.replace(folder / f"part-{part:07d}.parquet")

    def uploaded(self, upload: str) -> list[int]:
        """Return the numbers of the parts of an upload that have arrived."""
        return sorted(int(path.stem.removeprefix("part-")) for path in self._upload(upload).glob("part-*.parquet"))

    def holds(self, version: str) -> bool:
        """Return whether this content is here already, so that a commit needs no upload."""
        return bool(HASH.fullmatch(version)) and (self._folder / version).is_dir()

    def forget(self, upload: str) -> None:
        """Remove the parts of an upload."""
        shutil.rmtree(self._upload(upload), ignore_errors=True)

    def commit(self, name: str, upload: str, documents: int, version: str = "") -> Dataset:
        """Make a whole upload the dataset called `name`; a dataset of that name is replaced.

        Args:
            name: 1 to 128 letters, digits, '.', '_' or '-'.
            upload: whose parts have arrived.
            documents: how many they are together.
            version: what the content's SHA-256 must be; where it is here already, nothing need be uploaded.

        Raises:
            InvalidInput: a wrong name, or other documents than arrived.
        """
        checked_name(name, "dataset name")
        folder, content = self._upload(upload), version
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
                    f"changed on the way. Push it again."
                )
            content = measured.version
            if not self.holds(content):
                (folder / DESCRIPTION).write_text(json.dumps(asdict(measured)))
                publish_folder(folder, self._folder / content)
        self.forget(upload)
        self._forget_old_uploads()
        dataset = replace(self._described(content), name=name, created_at=time.time())
        self._names.set(name, asdict(dataset))
        return dataset

    def _described(self, version: str) -> Dataset:
        """Return what the folder of a version holds: its ids, and so its bytes, may be those of an earlier push."""
        return _from_dict(json.loads((self._folder / version / DESCRIPTION).read_text()))

    def _forget_old_uploads(self) -> None:
        for folder in (self._folder / "uploads").glob("*"):
            if folder.stat().st_mtime < time.time() - FORGOTTEN:
                shutil.rmtree(folder, ignore_errors=True)

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
        return _from_dict(target)

    def all(self) -> list[Dataset]:
        """Return every dataset, sorted by name."""
        return [_from_dict(target) for _, target in self._names.all()]

    def delete(self, name: str) -> Dataset:
        """Forget a name, and the content with its decoded images if no other name means it.

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
        """Return the documents of one part, none past the last.

        Raises:
            DatasetNotFound: no such content here.
        """
        from docarray import Document, DocumentArray

        self._require(version)
        parts = self.parts(version)[number : number + 1]
        return DocumentArray(Document.from_bytes(content, protocol="protobuf") for content in _read(parts))

    def page(self, version: str, offset: int, limit: int) -> DocumentArray:
        """Return at most `limit` documents of a version from position `offset` on.

        Raises:
            DatasetNotFound: no such content here.
        """
        from docarray import Document, DocumentArray

        self._require(version)
        contents = islice(_read_from(self.parts(version), offset), limit)
        return DocumentArray(Document.from_bytes(content, protocol="protobuf") for content in contents)

    def _require(self, version: str) -> None:
        if not self.holds(version):
            raise DatasetNotFound(f"version must be a dataset's content hash. Got {version[:80]!r}, which is not here.")


def _from_dict(described: dict[str, Any]) -> Dataset:
    known = {field.name for field in fields(Dataset)}
    return Dataset(**{name: value for name, value in described.items() if name in known})


def _measured(folder: Path, name: str) -> Dataset:
    """Return what the parts in a folder are together."""
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
    """Yield documents from a position on; of the parts before it, only their counts are read."""
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
