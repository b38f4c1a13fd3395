"""Receives a file in pieces, and makes a dataset of it once it is whole and valid."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from finetuner.contract.checks import checked_name
from finetuner.contract.file_endings import UPLOADED
from finetuner.contract.values import whole_text
from finetuner.contract.wire import MAX_FILE_BYTES, OWNER, PIECE_BYTES
from finetuner.exceptions import InsufficientStorage, InvalidInput, NotFound, ResourceExhausted
from finetuner.workspace.datasets import Datasets
from finetuner.workspace.folder import DAMAGE, Workspace, write_atomically

from ..quota import UploadQuota, mark_owner, owner_of
from .changes import CHANGES, Changes
from .conversion import DOCUMENTS, FIRST, TASKS, convert, converted, keep_preview, kept_preview
from .parts import sized, store

if TYPE_CHECKING:
    from docarray import DocumentArray

    from finetuner.contract.parameters import Parameters

UPLOAD_PARAMETERS = ("upload", "begin", "offset", "preview", "complete", "length", "abort", *CHANGES, OWNER)
MAX_UNFINISHED = 16
"""Uploads of one owner that are not complete."""
FORGOTTEN = 24 * 3600.0  # seconds without a new piece after which an upload is removed
DESCRIPTION, CONTENT = "upload.json", "content"
ON_ERROR = ("raise", "skip")
CONTENTS = ("image", "text", "label", "score", "language", "negative")


@dataclass(frozen=True)
class Upload:
    """What a caller says of an upload at its start.

    Raises:
        InvalidInput: a value that is not allowed.
    """

    dataset: str
    """Name of the dataset that it becomes."""
    file: str
    """Name of the file, whose ending says what it is."""
    length: int
    """Bytes of the whole file."""
    kind: str = "pairs"
    """'pairs' or 'labelled'."""
    columns: dict[str, str] | None = None
    """Content -> name of its column; None takes well-known names."""
    on_error: str = "raise"
    """'raise' refuses a file with a bad row, 'skip' leaves such rows out."""
    append: bool = False
    """Whether its documents come behind those of the dataset instead of replacing it."""

    def __post_init__(self) -> None:
        checked_name(self.dataset, "dataset name")
        if not self.file.lower().endswith(UPLOADED):
            raise InvalidInput(f"file must end in {', '.join(UPLOADED)}. Got {self.file[-80:]!r}. Rename it.")
        if not 1 <= self.length <= MAX_FILE_BYTES:
            raise InvalidInput(f"file must have 1 to {MAX_FILE_BYTES} bytes. Got {self.length}. Split it.")
        if self.kind not in TASKS:
            raise InvalidInput(f"as must be one of {', '.join(TASKS)}. Got {self.kind!r:.40}. Choose one of them.")
        if self.on_error not in ON_ERROR:
            raise InvalidInput(f"on_error must be one of {', '.join(ON_ERROR)}. Got {self.on_error!r:.40}.")
        named = self.columns or {}
        if not isinstance(named, dict) or not all(isinstance(name, str) and name for name in named.values()):
            raise InvalidInput(f"columns must be an object of names. Got {self.columns!r:.80}. Correct it.")
        if unknown := sorted(set(named) - set(CONTENTS)):
            raise InvalidInput(f"columns must be of {', '.join(CONTENTS)}. Got {unknown[0]!r:.40}. Leave it out.")
        for name in named.values():
            whole_text(name, "columns")

    @classmethod
    def from_dict(cls, given: object) -> Upload:
        """Return the upload of a request.

        Raises:
            InvalidInput: unknown or missing fields, or a value that is not allowed.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(given, dict) or not {"dataset", "file", "length"} <= set(given) <= set(names):
            raise InvalidInput(f"begin must have the fields {', '.join(names)}. Got {given!r:.120}. Correct it.")
        for name in ("dataset", "file", "kind", "on_error"):
            if not isinstance(given.get(name, ""), str):
                raise InvalidInput(f"{name} must be a text. Got {given[name]!r:.40}. Correct it.")
        length = given["length"]
        if isinstance(length, bool) or not isinstance(length, int | float) or length % 1 != 0:
            raise InvalidInput(f"length must be a whole number of bytes. Got {length!r:.40}. Correct it.")
        return cls(**{**given, "length": int(length)})

    @property
    def ending(self) -> str:
        """Ending of its file, the longest known one."""
        return max((ending for ending in UPLOADED if self.file.lower().endswith(ending)), key=len)


class FileUploads:
    """Unfinished uploads of a workspace, in `datasets/uploads/`, where they count for their owner's quota.

    Each takes up to three times its size while it becomes a dataset: the file, its images, and the documents.

    Args:
        workspace: holds the uploads.
        datasets: receive what is whole and valid.
        quota: admits each piece.
    """

    def __init__(self, workspace: Workspace, datasets: Datasets, quota: UploadQuota) -> None:
        self._folder = workspace.datasets / "uploads"
        self._datasets = datasets
        self._quota = quota
        self._changes = Changes(datasets, quota)
        self._adding, self._completing = Lock(), Lock()

    def answer(self, parameters: Parameters, docs: DocumentArray) -> dict[str, Any]:
        """Answer one request.

        `begin`: the fields of `Upload`. A document: its blob is the piece at byte `offset`. `preview`: {'kind',
        'columns', ...}, see there. `complete`: make the dataset and describe it; `length` replaces that of the
        beginning, which a form does not know. `abort`: remove the upload. None of these: return {'offset', 'length'}.
        CHANGES: see `Changes`.
        """
        owner = parameters.text(OWNER, "")
        if (changed := self._changes.answer(parameters, owner)) is not None:
            return changed
        upload = parameters.text("upload")
        if parameters.flag("abort", False):
            self.forget(upload, owner)
            return {"upload": upload}
        if (begin := parameters.get("begin")) is not None:
            self.begin(upload, Upload.from_dict(begin), owner)
        elif (asked := parameters.get("preview")) is not None:
            return self.preview(upload, owner, asked)
        elif parameters.flag("complete", False):
            return self.complete(upload, owner, parameters.whole("length", 0, 0, MAX_FILE_BYTES))
        elif len(docs):
            content = docs[0].blob
            docs[0].pop("blob")  # a document refers to itself, so the blob would stay until garbage collection
            self.add(upload, parameters.whole("offset", 0, 0, 2**53), content, owner)
        return self.state(upload, owner)

    def begin(self, upload: str, described: Upload, owner: str) -> None:
        """Begin an upload.

        Args:
            upload: its id, unknown to others.
            described: what the caller says of it.
            owner: name of the token that uploads.

        Raises:
            ResourceExhausted: MAX_UNFINISHED uploads of this owner.
            InsufficientStorage: see `UploadQuota`.
        """
        self._forget_old()
        unfinished = [path for path in self._folder.glob(f"*/{DESCRIPTION}") if owner_of(path.parent) == owner]
        if len(unfinished) >= MAX_UNFINISHED:
            raise ResourceExhausted(
                f"uploads that are not complete must be at most {MAX_UNFINISHED}. Got {len(unfinished)}. Complete or "
                f"delete one."
            )
        self._quota.admit(owner, 0)
        self._quota.require_free(described.length)
        folder = self._path(upload)
        (folder / CONTENT).mkdir(parents=True, exist_ok=True)
        mark_owner(folder, owner)
        self._file(folder, described).touch()
        write_atomically(folder / DESCRIPTION, json.dumps(asdict(described)).encode())

    def state(self, upload: str, owner: str) -> dict[str, Any]:
        """Return {'offset', 'length'}: the bytes that have arrived, and those of the whole file.

        Raises:
            NotFound: no such upload of this owner.
        """
        folder, described = self._find(upload, owner)
        return {"offset": self._file(folder, described).stat().st_size, "length": described.length}

    def add(self, upload: str, offset: int, content: bytes, owner: str) -> int:
        """Add a piece at the end of the file, and return the number of bytes there.

        Raises:
            InvalidInput: another offset, no bytes, or more than the file has.
            NotFound: no such upload of this owner.
            InsufficientStorage: see `UploadQuota`. The upload is removed.
        """
        with self._adding:
            return self._add(upload, offset, content, owner)

    def _add(self, upload: str, offset: int, content: bytes, owner: str) -> int:
        folder, described = self._find(upload, owner)
        file = self._file(folder, described)
        here = file.stat().st_size
        if offset != here or not 1 <= len(content) <= min(PIECE_BYTES, described.length - here):
            raise InvalidInput(
                f"piece must begin at byte {here} of {described.length}, and end there. Got {len(content)} bytes at "
                f"{offset}. Ask for the offset, and send what is missing."
            )
        try:
            self._quota.admit(owner, len(content))
        except InsufficientStorage:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with open(file, "ab") as opened:
            opened.write(content)
        os.utime(folder)
        return here + len(content)

    def forget(self, upload: str, owner: str) -> None:
        """Remove an upload of this owner, if there is one."""
        with suppress(NotFound):
            self._find(upload, owner)
            shutil.rmtree(self._path(upload), ignore_errors=True)

    def preview(self, upload: str, owner: str, asked: object) -> dict[str, Any]:
        """Read a whole file, and return what was understood of it; `complete` then stores just this.

        Args:
            upload: its id.
            owner: name of the token that uploads.
            asked: {'kind', 'columns', 'dataset', 'append'}, which replace those of the beginning; '' leaves the
                dataset's name. Bad rows are left out from now on.

        Returns:
            {'left_out', 'notes', 'documents', 'kinds', 'first'}; see `sources.uploaded`.

        Raises:
            InvalidInput: as of `complete`. The file stays, so that other columns can be named.
            NotFound, ResourceExhausted, InsufficientStorage: as of `complete`.
        """
        given = asked if isinstance(asked, dict) else {}
        kind, columns, dataset, append = (given.get(name) for name in ("kind", "columns", "dataset", "append"))
        if len(given) != 4 or not (isinstance(kind, str) and isinstance(dataset, str) and isinstance(append, bool)):
            raise InvalidInput(f"preview must have kind, columns, dataset and append. Got {asked!r:.120}. Correct it.")
        folder, described = self._find(upload, owner)
        changed = replace(described, kind=kind, columns=columns, dataset=dataset or described.dataset)
        changed = replace(changed, on_error="skip", append=append)
        read = {"kind": kind, "columns": columns}
        if (known := kept_preview(folder, read)) is not None:
            write_atomically(folder / DESCRIPTION, json.dumps(asdict(changed)).encode())
            return known
        whole = self._require_whole(folder, described, described.length)
        with _turn(self._completing):
            self._quota.require_free(2 * whole)
            file = self._file(folder, described)
            try:
                answer = convert(file, folder, changed.kind, changed.columns, changed.on_error, FIRST)
                write_atomically(folder / DESCRIPTION, json.dumps(asdict(changed)).encode())
                keep_preview(folder, read, answer)
            except BaseException:
                (folder / DOCUMENTS).unlink(missing_ok=True)
                raise
            finally:
                for left in file.parent.iterdir():  # of an archive
                    if left != file:
                        shutil.rmtree(left, ignore_errors=True)
        return answer

    def complete(self, upload: str, owner: str, length: int = 0) -> dict[str, Any]:
        """Make a dataset of a whole file, and return its description, with the warnings in `left_out`.

        A file that is not whole stays; one that is not valid is removed. `length` replaces the file's, unless it is 0.

        Raises:
            InvalidInput: the file is not whole, or no data. The message has the bad rows by line.
            ResourceExhausted: another file is being read; this one stays.
            NotFound: no such upload of this owner.
            InsufficientStorage: see `UploadQuota`.
        """
        folder, described = self._find(upload, owner)
        whole = self._require_whole(folder, described, length or described.length)
        parts = f"file {upload}"
        with _turn(self._completing):
            try:
                self._quota.require_free(2 * whole)
                asked = {"kind": described.kind, "columns": described.columns}
                answer = kept_preview(folder, asked)
                if answer is None:
                    file = self._file(folder, described)
                    answer = convert(file, folder, described.kind, described.columns, described.on_error)
                arrived, before = converted(folder / DOCUMENTS), ""
                if described.append:
                    before = self._datasets.find(described.dataset).version
                    arrived = chain(sized(self._datasets.documents(before)), arrived)
                count = store(self._datasets, self._quota, parts, arrived, owner)
                made = self._datasets.commit(described.dataset, parts, count)
                return vars(made) | {"left_out": answer["left_out"], "before": before}
            except BaseException:
                self._datasets.forget(parts)
                raise
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _require_whole(self, folder: Path, described: Upload, length: int) -> int:
        here = self._file(folder, described).stat().st_size
        if here != length:
            raise InvalidInput(f"file must be whole, {length} bytes. Got {here}. Send what is missing.")
        return here

    def _find(self, upload: str, owner: str) -> tuple[Path, Upload]:
        folder = self._path(upload)
        try:
            described = Upload(**json.loads((folder / DESCRIPTION).read_bytes()))
            if owner_of(folder) == owner and self._file(folder, described).is_file():
                return folder, described
        except (*DAMAGE, OSError):
            pass
        raise NotFound(f"upload must be one that you have begun. Got {upload[:80]!r}, which is none. Begin again.")

    def _forget_old(self) -> None:
        for path in self._folder.glob(f"*/{DESCRIPTION}"):
            with suppress(FileNotFoundError):
                if path.parent.stat().st_mtime < time.time() - FORGOTTEN:
                    shutil.rmtree(path.parent, ignore_errors=True)

    def _path(self, upload: str) -> Path:
        return self._folder / hashlib.sha256(f"upload {upload}".encode(errors="replace")).hexdigest()

    @staticmethod
    def _file(folder: Path, described: Upload) -> Path:
        return folder / CONTENT / f"upload{described.ending}"


@contextmanager
def _turn(reading: Lock) -> Iterator[None]:
    """Hold the lock of those who read a file; refuse to wait for another."""
    if not reading.acquire(blocking=False):
        raise ResourceExhausted("one file is read at a time. Another is being read. Complete this one later.")
    try:
        yield
    finally:
        reading.release()
