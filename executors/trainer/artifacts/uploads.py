"""Receives an artifact as a zip in parts, checks the whole zip, and publishes it."""

from __future__ import annotations

import hashlib
import shutil
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock

from finetuner.artifacts.manifest import MANIFEST, MAX_TOTAL_BYTES, Manifest
from finetuner.exceptions import AlreadyExists, InvalidInput
from finetuner.workspace.folder import Workspace, publish_folder

from ..run_store import RunStore
from .upload_checks import AGAIN, unpack

MAX_ZIP_BYTES = MAX_TOTAL_BYTES + 2**20
FORGOTTEN = 3600.0  # seconds without a new part after which an upload is removed
MAGIC = b"PK\x03\x04"


class ArtifactUploads:
    """Unfinished uploads of a workspace.

    Uploads that a killed trainer left are removed at the start.

    Args:
        workspace: keeps uploads below `artifacts/uploads/` until they are published.
        store: the runs, whose ids are reserved.
    """

    def __init__(self, workspace: Workspace, store: RunStore) -> None:
        self._artifacts = workspace.artifacts
        self._store = store
        self._folder = workspace.artifacts / "uploads"
        self._publishing = Lock()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, upload: str, offset: int, content: bytes) -> int:
        """Store a part; the last part may be sent again.

        Args:
            upload: the client's id of this upload, any string.
            offset: byte position of the part in the zip; all bytes before it must be stored.
            content: at least one byte.

        Returns:
            The number of bytes stored now.

        Raises:
            InvalidInput: a gap, too many bytes, or a first part that does not begin a zip.
        """
        file = self._file(upload)
        if not offset:
            self._forget_old()
            self._folder.mkdir(parents=True, exist_ok=True)
            file.touch()
        here = file.stat().st_size if file.exists() else 0
        if not content or offset > here:
            raise InvalidInput(f"part must hold bytes from {here} on. Got {len(content)} from {offset}. Start again.")
        if offset + len(content) > MAX_ZIP_BYTES or (not offset and not content.startswith(MAGIC)):
            self.forget(upload)
            got = "more" if offset else f"{len(content)}, the first of them {content[:8]!r}"
            raise InvalidInput(f"artifact must be a zip of at most {MAX_ZIP_BYTES} bytes. Got {got}. {AGAIN}")
        with open(file, "r+b") as opened:
            opened.seek(offset)
            opened.write(content)
            opened.truncate()
        return offset + len(content)

    def commit(self, upload: str, size: int) -> Manifest:
        """Check a whole upload and publish it under its own id; the same artifact again changes nothing.

        Args:
            upload: the client's id of the upload.
            size: bytes of the whole zip.

        Raises:
            InvalidInput: parts are missing, or the zip is no artifact; see `unpack`. The upload is removed.
            AlreadyExists: another artifact or a run of this workspace has the id.
        """
        file, folder = self._file(upload), self._file(upload).with_suffix("")
        try:
            here = file.stat().st_size if file.exists() else 0
            if not here or here != size:
                raise InvalidInput(f"artifact must be whole, {size} bytes. Got {here}. Upload it again.")
            manifest = unpack(file, folder)
            file.unlink()
            with self._publishing:
                self._publish(folder, manifest)
            return manifest
        finally:
            self.forget(upload)

    def forget(self, upload: str) -> None:
        """Remove an upload."""
        self._file(upload).unlink(missing_ok=True)
        shutil.rmtree(self._file(upload).with_suffix(""), ignore_errors=True)

    def _publish(self, folder: Path, manifest: Manifest) -> None:
        final = self._artifacts / manifest.artifact_id
        if final.is_dir():
            if (final / MANIFEST).read_bytes() != (folder / MANIFEST).read_bytes():
                raise AlreadyExists(f"artifact id must be new. Got {final.name}, which has other content here.")
            return
        if any(run.artifact_id == manifest.artifact_id for run in self._store.all()):
            raise AlreadyExists(f"artifact id must be new. Got {final.name}, which belongs to a run of this Flow.")
        publish_folder(folder, final)

    def _forget_old(self) -> None:
        for path in self._folder.glob("*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - FORGOTTEN:
                    path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)

    def _file(self, upload: str) -> Path:
        return self._folder / f"{hashlib.sha256(upload.encode()).hexdigest()}.zip"
