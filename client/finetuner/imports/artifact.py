"""Makes an artifact of a model folder of another library."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from ..artifacts.manifest import Manifest
from ..artifacts.publish import publish_artifact
from ..contract.checks import checked_name, local_path
from ..models.backbones import IMPORTED, PARTS
from ..models.clip import Clip
from ..version import __version__
from ..workspace.folder import Workspace
from .clip_model import read_clip
from .parts import PLUS, read_parts

FORBIDDEN = re.compile(r"[^A-Za-z0-9._-]+")


def import_model(
    source: str | os.PathLike[str],
    workspace: Path,
    name: str | None = None,
    exists: Callable[[str], bool] = lambda _: False,
) -> str | Path:
    """Read a model and publish it as an artifact in a workspace.

    Args:
        source: a folder, see `clip_model.read_clip`; or VISION+TEXT, see `parts.read_parts`.
        workspace: receives the artifact, as `artifacts/<id>`.
        name: the artifact's, in place of a run's; None takes the source's.
        exists: whether an artifact is known where it is to go, by its id; it is then not written.

    Returns:
        The artifact's folder, or its id if `exists`. The id follows from the content: the same model has the same id.

    Raises:
        InvalidInput, KeysMismatchError, NoSuchModel: see `clip_model.read_clip` and `parts.read_parts`; or a malformed
            name.
    """
    parts = isinstance(source, str) and PLUS in source
    default = FORBIDDEN.sub("-", str(source) if parts else local_path("model", source).resolve().name)
    default = default.lstrip("._-")[:128] or "imported"
    name = checked_name(default if name is None else name, "name of the artifact")
    row = PARTS if parts else IMPORTED
    model = read_parts(str(source), row.name) if parts else read_clip(local_path("model", source), row.name)
    artifact_id = _id_of(model)
    if exists(artifact_id):
        return artifact_id
    model.model_id = artifact_id
    manifest = Manifest(
        artifact_id=artifact_id,
        run_name=name,
        backbone=row.name,
        output_dim=model.dim,
        towers=list(model.towers),
        metrics={},
        data={},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=__version__,
        training={"imported": default},
    )
    return publish_artifact(Workspace(workspace), model, manifest, {"model": row.name, "run_name": name})


def _id_of(model: Clip) -> str:
    """Return 24 hex characters that follow from the content of a model."""
    described = [model.config, asdict(model.preprocess_config), model.files]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for key, value in sorted(model.network.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:24]
