"""Reads a user's data of any kind: files, folders and objects of Hugging Face's datasets."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..exceptions import InvalidInput
from .archives.content import content_of, is_of_files
from .archives.tar_file import tar_documents
from .archives.unpack import archive_documents
from .endings import KNOWN_SUFFIXES, of_one_kind
from .folders.coco import coco_documents
from .folders.image_folder import folder_documents, image_documents
from .folders.metadata import metadata_file
from .hugging_face.objects import kind_of_object, object_documents
from .hugging_face.saved import saved_documents
from .paths import PathName, expanded
from .places.address import Address, address_of
from .places.fetched import Fetched
from .rejects import checked_on_error
from .tables.columns import Columns, checked_columns
from .tables.csv_documents import csv_documents
from .tables.csv_file import CSVOptions
from .tables.jsonl_file import jsonl_documents
from .tables.parquet_file import parquet_documents

if TYPE_CHECKING:
    from docarray import Document

TASKS = ("text-to-image", "image-to-image")
KEPT_FREE = 2**30
"""Bytes of a server's disk that an unpacked upload leaves free."""
NAMED = ("CSV", "jsonl", "parquet", "saved")
NAMED_WORDS = "CSV, jsonl and parquet files, folders with a metadata file and data sets of Hugging Face"

Source = PathName | Sequence[PathName] | TextIO | Any
"""Local data; `Any` is a data set of Hugging Face, whose classes are not imported."""


def is_source(data: object) -> bool:
    """Return whether `data` is local data, not the name of a dataset in the Flow.

    Local data is a path object, an open text file, a nonempty list or tuple of strings or path objects, or a data set
    of Hugging Face's datasets. A string is local data if it is an existing file or folder, contains a separator or a
    wildcard (`*`, `?`, `[`, `{`), or ends in one of KNOWN_SUFFIXES. An existing path takes precedence over a dataset of
    that name.
    """
    if isinstance(data, str):
        special = any(letter in data for letter in ("/", os.sep, *"*?[{"))
        return special or data.lower().endswith(KNOWN_SUFFIXES) or os.path.exists(data)  # noqa: PTH110 (never raises)
    if isinstance(data, list | tuple):
        return bool(data) and all(isinstance(path, str | os.PathLike) for path in data)
    return isinstance(data, os.PathLike) or _is_stream(data) or bool(kind_of_object(data))


def documents_from(
    source: Source,
    *,
    csv_options: CSVOptions | None = None,
    columns: Columns | None = None,
    task: str,
    on_error: str = "raise",
    alone: Path | None = None,
) -> Iterator[Document]:
    """Return the documents of local data, read lazily.

    Args:
        source: a CSV file (path or open text file), a jsonl file, a JSON file of COCO, a folder of images, an image,
            parquet or tar shards, a zip or tar file of any of these, or a list of these, all of one kind. A folder is
            read from its `metadata.csv`, `.jsonl` or `.parquet`, if it has one that `metadata.metadata_file` takes.
            Wildcards and braces (`shard-{000..012}.tar`) are expanded. Likewise at an address of `places.address.KINDS`
            (`hf://`, `s3://`, `gs://`, `https://`), which is fetched into a temporary folder. Or a data set of Hugging
            Face's datasets: a Dataset, an IterableDataset, a dictionary of one of them, or a folder of `save_to_disk`.
        csv_options: for CSV files; all others have `size` and `sampling_rate`, too, and tables `convert_to_blob`.
        columns: for CSV with a header, jsonl and parquet: content ('image', 'text', 'label', 'score', 'language',
            'negative') -> name of its column. None takes well-known names; see `columns.find_columns`.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' names all invalid entries in one error; 'skip' leaves them out and warns once.
        alone: folder of an upload: images lie in it, and addresses are refused. None for the user's own data.

    Returns:
        For `text-to-image`, pairs (see `documents.pairs`). For `image-to-image`, images with the tag `finetuner_label`.
        Scores are in the tag `finetuner_score`. Images are blobs, unless CSVOptions.convert_to_blob is False.

    Raises:
        DatasetNotFound: no such file.
        InvalidInput: an unknown task or kind of file, mixed kinds, options without effect, or no data; see also
            `places.fetched.Fetched`.
        InvalidDocument: invalid entries. This call checks CSV files, jsonl files and folders. Damage that only
            decoding finds, and invalid entries in shards, are raised while iterating.
    """
    if task not in TASKS:
        raise InvalidInput(f"task of local data must be one of {', '.join(TASKS)}. Got {task!r}. Choose one of them.")
    if csv_options is not None and not isinstance(csv_options, CSVOptions):
        raise InvalidInput(f"csv_options must be finetuner CSVOptions. Got {csv_options!r:.80}. Use that class.")
    options = csv_options or CSVOptions()
    if alone is not None:
        options = replace(options, links=replace(options.links, allowed=False))
    most = None if alone is None else max(0, shutil.disk_usage(alone).free - KEPT_FREE)
    reading = _Reading(task, checked_on_error(on_error), options, checked_columns(columns), alone, most)
    if kind_of_object(source):
        reading.check_options(kind_of_object(source))
        return object_documents(source, reading.options, task=task, on_error=on_error, columns=reading.columns)
    if _is_stream(source):
        return csv_documents(source, reading.options, **reading.of_named())  # type: ignore[arg-type]
    if not is_source(source) and not isinstance(source, str):
        raise InvalidInput(
            f"data must be a path, a list of paths or an open text file. Got {source!r:.80}. Pass one of them."
        )
    return reading.at(source)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Reading:
    """The arguments of a call of `documents_from`."""

    task: str
    on_error: str
    options: CSVOptions
    columns: Columns | None
    inside: Path | None = None
    """Folder that images may not leave; None for any."""
    unpacked: int | None = None
    """Bytes that the content of an archive may have; None for no further limit."""

    def of_named(self) -> dict[str, Any]:
        """Return the arguments of a reader of named columns."""
        return {"task": self.task, "on_error": self.on_error, "columns": self.columns, "inside": self.inside}

    def at(self, source: PathName | Sequence[PathName]) -> Iterator[Document]:
        """Return the documents of paths, or of addresses, whose data is fetched now and removed after reading."""
        if self.options.links.allowed is False:
            return self.documents([str(source)])
        names = [os.fspath(each) for each in ([source] if isinstance(source, str | os.PathLike) else source)]
        found = [(name, address_of(name)) for name in names]
        addresses = [address for _, address in found if address is not None]
        if not addresses:
            return self.documents(expanded(source))
        if len(addresses) < len(names):
            path = next(name for name, address in found if address is None)
            raise InvalidInput(
                f"data must be all on this machine or all elsewhere. Got {path!r:.80} beside {addresses[0].shown!r}. "
                f"Pass them separately."
            )
        return self._fetched(addresses)

    def _fetched(self, addresses: Sequence[Address]) -> Iterator[Document]:
        fetched = Fetched(addresses)
        try:
            inner = replace(self, inside=fetched.folder)
            documents = inner._unpacked(fetched.folder) if fetched.is_folder else inner.documents(fetched.paths)
            return _until_read(fetched, documents)
        except BaseException:
            fetched.remove()
            raise

    def documents(self, paths: list[str]) -> Iterator[Document]:
        """Return the documents of existing files or folders, all of one kind."""
        kind, paths = of_one_kind(paths)
        if kind == "folder":
            return self._chained(kind, [self._folder(path) for path in paths])
        if kind == "zip" or (kind == "tar" and len(paths) == 1 and is_of_files(paths[0], self.task)):
            return self._chained(kind, [archive_documents(path, self._unpacked, self.unpacked) for path in paths])
        self._check_arguments(kind, paths)
        if kind == "CSV":
            return self._chained(kind, [csv_documents(path, self.options, **self.of_named()) for path in paths])
        if kind in NAMED:
            named = {"jsonl": jsonl_documents, "parquet": parquet_documents, "saved": saved_documents}
            return named[kind](paths, self.options, **self.of_named())
        task, on_error = self.task, self.on_error
        if kind == "COCO":
            return coco_documents(paths, self.options, task=task, on_error=on_error, inside=self.inside)
        readers = {"image": image_documents, "tar": tar_documents}
        return readers[kind](paths, self.options, task=task, on_error=on_error)

    def _folder(self, path: str) -> Iterator[Document]:
        table = metadata_file(path, self.options, self.columns, self.task)
        if table is not None:
            return self.documents([table])
        self._check_arguments("folder", [path])
        return folder_documents(path, self.options, task=self.task, on_error=self.on_error)

    def _unpacked(self, folder: Path) -> Iterator[Document]:
        """Return the documents of an unpacked archive. Its images lie in it, and archives in it are not unpacked."""
        inner = replace(self, inside=folder)
        kind, paths = of_one_kind(content_of(folder, self.task))
        if kind == "tar":
            inner._check_arguments(kind, paths)
            return tar_documents(paths, self.options, task=self.task, on_error=self.on_error)
        return inner.documents(paths)

    def _chained(self, kind: str, parts: Sequence[Iterator[Document]]) -> Iterator[Document]:
        if len(parts) > 1 and self.options.size is not None:
            one = "CSV file" if kind == "CSV" else kind
            raise InvalidInput(f"CSVOptions.size is for one {one}. Got {len(parts)}. Read them one by one.")
        return itertools.chain.from_iterable(parts)

    def _check_arguments(self, kind: str, paths: Sequence[str]) -> None:
        """Refuse columns and options that data of a kind do not have."""
        if self.columns is not None and kind not in NAMED:
            given = f"{paths[0]!r:.80} ({kind})"
            raise InvalidInput(f"columns are for {NAMED_WORDS}. Got them with {given}. Leave them out.")
        self.check_options(kind)

    def check_options(self, kind: str) -> None:
        """Refuse options that data of a kind do not have."""
        default = CSVOptions()
        others = ["dialect", "encoding", "is_labeled"] if kind != "CSV" else []
        others += ["convert_to_blob", "links"] if kind in ("folder", "image", "tar") else []
        for name in others:
            value = getattr(self.options, name)
            if value != getattr(default, name) and getattr(value, "allowed", True):
                files = "files that name images" if name in ("convert_to_blob", "links") else "CSV files"
                raise InvalidInput(f"CSVOptions.{name} is for {files}. Got {value!r:.40} with {kind}. Leave it out.")


def _is_stream(data: object) -> bool:
    return hasattr(data, "read") and hasattr(data, "readline") and not isinstance(data, str | os.PathLike)


def _until_read(fetched: Fetched, documents: Iterator[Document]) -> Iterator[Document]:
    with fetched:
        yield from documents
