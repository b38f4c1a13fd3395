"""Receives an artifact as a zip in parts, checks the whole zip, and publishes it."""

from __future__ import annotations

import hashlib
import shutil
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from threading import Lock

from finetuner.artifacts.manifest import MANIFEST, MAX_TOTAL_BYTES, Manifest
from finetuner.exceptions import AlreadyExists, InsufficientStorage, InvalidInput
from finetuner.workspace.folder import Workspace, publish_folder

from ..quota import UploadQuota, mark_owner, owner_of
from ..run_store import RunStore
from .upload_checks import AGAIN, check_members, unpack

MAX_ZIP_BYTES = MAX_TOTAL_BYTES + 2**20
FORGOTTEN = 3600.0  # seconds without a new part after which an upload is removed
ZIP = "artifact.zip"
MAGIC = b"PK\x03\x04"


class ArtifactUploads:
    """Unfinished uploads of a workspace.

    Uploads that a killed trainer left are removed at the start.

    Args:
        workspace: keeps uploads below `artifacts/uploads/` until they are published.
        store: the runs, whose ids are reserved.
        quota: admits each part.
    """

    def __init__(self, workspace: Workspace, store: RunStore, quota: UploadQuota) -> None:
        self._artifacts = workspace.artifacts
        self._store = store
        self._quota = quota
        self._folder = workspace.artifacts / "uploads"
        self._publishing = Lock()
        if store.database.embedded:  # else an upload to another trainer may be under way
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, upload: str, offset: int, content: bytes, owner: str = "") -> int:
        """Store a part; the last part may be sent again.

        Args:
            upload: the client's id of this upload, any string.
            offset: byte position of the part in the zip; all bytes before it must be stored.
            content: at least one byte.
            owner: of the first part, name of the token that uploads.

        Returns:
            The number of bytes stored now.

        Raises:
            InvalidInput: a gap, too many bytes, or a first part that does not begin a zip.
            InsufficientStorage: see `UploadQuota`. The upload is removed.
        """
        file = self._file(upload)
        if not offset:
            self._forget_old()
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
            mark_owner(file.parent, owner)
        here = file.stat().st_size if file.exists() else 0
        if not content or offset > here:
            raise InvalidInput(f"part must hold bytes from {here} on. Got {len(content)} from {offset}. Start again.")
        if offset + len(content) > MAX_ZIP_BYTES or (not offset and not content.startswith(MAGIC)):
            self.forget(upload)
            got = "more" if offset else f"{len(content)}, the first of them {content[:8]!r}"
            raise InvalidInput(f"artifact must be a zip of at most {MAX_ZIP_BYTES} bytes. Got {got}. {AGAIN}")
        try:
            self._quota.admit(owner_of(file.parent), len(content))
        except InsufficientStorage:
            self.forget(upload)
            raise
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
            InsufficientStorage: see `UploadQuota`.
        """
        file = self._file(upload)
        folder = file.with_name("unpacked")
        try:
            here = file.stat().st_size if file.exists() else 0
            if not here or here != size:
                raise InvalidInput(f"artifact must be whole, {size} bytes. Got {here}. Upload it again.")
            owner = owner_of(file.parent)
            check_members(file)
            with zipfile.ZipFile(file) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            self._quota.require_free(unpacked)
            self._quota.admit(owner, max(0, unpacked - size))  # the zip is removed
            manifest = unpack(file, folder)
            mark_owner(folder, owner)
            file.unlink()
            with self._publishing:
                self._publish(folder, manifest)
            return manifest
        finally:
            self.forget(upload)

    def forget(self, upload: str) -> None:
        """Remove an upload."""
        shutil.rmtree(self._file(upload).parent, ignore_errors=True)

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
        for file in self._folder.glob(f"*/{ZIP}"):
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < time.time() - FORGOTTEN:
                    shutil.rmtree(file.parent, ignore_errors=True)

    def _file(self, upload: str) -> Path:
        return self._folder / hashlib.sha256(upload.encode()).hexdigest() / ZIP
