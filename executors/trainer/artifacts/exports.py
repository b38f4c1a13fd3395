"""Artifacts as other libraries load them: each is made once by a process of its own, and kept for a day."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from finetuner.artifacts.manifest import Manifest
from finetuner.contract.checks import choice
from finetuner.contract.environment import without_secrets
from finetuner.exceptions import ArtifactNotFound, InvalidInput, ResourceExhausted, by_name
from finetuner.flow import prepared
from finetuner.workspace.folder import DAMAGE, Workspace

from ..quota import UploadQuota

EXPORTER = "finetuner.exports.stored"
FORMATS = ("open_clip", "transformers", "sentence-transformers", "timm", "onnx")
"""As `finetuner.exports.export` has them, which imports torch."""
SECONDS = 1500
KEPT = 24 * 3600.0  # seconds


class Exports:
    """The exports of a workspace's artifacts.

    Args:
        workspace: holds the artifacts.
        quota: says whether the disk has room.
    """

    def __init__(self, workspace: Workspace, quota: UploadQuota) -> None:
        self._artifacts, self._folder = workspace.artifacts, workspace.root / "exports"
        self._quota = quota
        self._making = Lock()

    def make(self, manifest: Manifest, to: str) -> dict[str, Any]:
        """Return {'artifact', 'to', 'size'} of an export, which is made if it is not here.

        Raises:
            InvalidInput: another format, one that cannot hold the model, or a model that takes too long.
            ResourceExhausted: another artifact is being exported.
            InsufficientStorage: see `UploadQuota`.
        """
        choice("to", to, FORMATS)
        target = self._path(manifest.artifact_id, to)
        if not target.is_file():
            if not self._making.acquire(blocking=False):
                raise ResourceExhausted("one artifact is exported at a time. Another one is. Try again later.")
            try:
                self._forget_old()
                self._make(manifest, to, target)
            finally:
                self._making.release()
        return {"artifact": manifest.artifact_id, "to": to, "size": target.stat().st_size}

    def piece(self, artifact_id: str, to: str, offset: int, most: int) -> bytes:
        """Return at most `most` bytes of an export.

        Raises:
            ArtifactNotFound: it has not been made, or was removed after a day.
        """
        choice("export", to, FORMATS)
        try:
            with open(self._path(artifact_id, to), "rb") as file:
                file.seek(offset)
                return file.read(most)
        except FileNotFoundError:
            raise ArtifactNotFound(
                f"export must have been made within a day. Got {to!r} of {artifact_id}, which is not here. Make it."
            ) from None

    def _make(self, manifest: Manifest, to: str, target: Path) -> None:
        size = sum(int(entry["size"]) for entry in manifest.files.values())
        self._quota.require_free(3 * size)  # the folder and its zip; half precision becomes single in some
        self._folder.mkdir(parents=True, exist_ok=True)
        request = target.with_suffix(".request")
        asked = {
            "artifact": str(self._artifacts / manifest.artifact_id),
            "to": to,
            "name": f"{manifest.run_name or manifest.artifact_id}-{to}",
            "target": str(target),
        }
        request.write_text(json.dumps(asked))
        said = Path(f"{target}.json")
        try:
            prepared.run(EXPORTER, [str(request)], without_secrets(), SECONDS)
            answer = json.loads(said.read_bytes())
        except (subprocess.TimeoutExpired, OSError, *DAMAGE) as error:
            raise InvalidInput(
                f"artifact must be exported within {SECONDS} s. Got no answer of the process that does it "
                f"({type(error).__name__}). Export it with `finetuner artifact export` on another machine."
            ) from None
        finally:
            request.unlink(missing_ok=True)
            said.unlink(missing_ok=True)
        if "type" in answer:
            raise by_name(answer["type"])(answer["message"])

    def _forget_old(self) -> None:
        for path in self._folder.glob("*"):
            with suppress(OSError):
                if path.stat().st_mtime < time.time() - KEPT:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _path(self, artifact_id: str, to: str) -> Path:
        return self._folder / f"{artifact_id}-{to}.zip"
