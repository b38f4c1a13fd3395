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
from typing import Any

from ..artifacts.manifest import Manifest
from ..artifacts.publish import publish_artifact
from ..contract.checks import checked_name, local_path
from ..models.backbones import find_backbone
from ..models.clip import Clip
from ..models.model_kinds import Model
from ..models.rows import ELSEWHERE, IMPORTED, IMPORTED_SIGLIP, PARTS, ROWS
from ..version import __version__
from ..workspace.folder import Workspace
from .clip_model import read_clip
from .hub import PREFIX, fetch_model
from .parts import PLUS, read_parts
from .timm_folder import is_timm_folder, read_timm

FORBIDDEN = re.compile(r"[^A-Za-z0-9._-]+")


def import_model(
    source: str | os.PathLike[str],
    workspace: Path,
    name: str | None = None,
    exists: Callable[[str], bool] = lambda _: False,
) -> str | Path:
    """Read a model and publish it as an artifact in a workspace.

    Args:
        source: a folder, see `clip_model.read_clip` and `timm_folder.read_timm`; 'hf-hub:OWNER/NAME' for such a folder
            on the hub, see `hub.fetch_model`, or the name of a row that has its weights there alone; or VISION+TEXT,
            see `parts.read_parts`.
        workspace: receives the artifact, as `artifacts/<id>`.
        name: the artifact's, in place of a run's; None takes the source's.
        exists: whether an artifact is known where it is to go, by its id; it is then not written.

    Returns:
        The artifact's folder, or its id if `exists`. The id follows from the content: the same model has the same id.

    Raises:
        InvalidInput, KeysMismatchError, NoSuchModel: see `clip_model.read_clip` and `parts.read_parts`; a malformed
            name; or a model whose architecture is a program in its repository.
    """
    given = _on_the_hub(str(source))
    hub, parts = given.startswith(PREFIX), isinstance(source, str) and PLUS in source
    default = given if parts else given.rpartition("/")[2] if hub else local_path("model", source).resolve().name
    default = FORBIDDEN.sub("-", default).lstrip("._-")[:128] or "imported"
    name = checked_name(default if name is None else name, "name of the artifact")
    if parts and not hub:
        backbone = PARTS.name
        model: Model = read_parts(given, backbone)
    else:
        backbone, model = _read_folder(fetch_model(given) if hub else local_path("model", source))
    artifact_id = _id_of(model)
    if exists(artifact_id):
        return artifact_id
    model.model_id = artifact_id
    manifest = Manifest(
        artifact_id=artifact_id,
        run_name=name,
        backbone=backbone,
        output_dim=model.dim,
        towers=list(model.towers),
        metrics={},
        data={},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=__version__,
        training={"imported": default},
    )
    return publish_artifact(Workspace(workspace), model, manifest, {"model": backbone, "run_name": name})


def _on_the_hub(given: str) -> str:
    """Return the name on the hub that a row of the backbone table stands for, or what was given.

    Raises:
        NoSuchModel: a model whose architecture is a program in its repository.
    """
    name = given.removeprefix(PREFIX)
    if name in ELSEWHERE and not os.path.isdir(given):  # noqa: PTH112 (never raises)
        find_backbone(name)  # raises
    row = next((row for row in ROWS if row.in_artifacts and name in (row.name, *row.aliases)), None)
    return given if row is None else f"{PREFIX}{row.source}"


def _read_folder(folder: Path) -> tuple[str, Model]:
    """Return the name of the backbone and the model in a folder."""
    if is_timm_folder(folder):
        model = read_timm(folder)
        return model.model_id, model
    clip = read_clip(folder, IMPORTED.name)
    sigmoid = getattr(clip.network, "logit_bias", None) is not None
    return (IMPORTED_SIGLIP if sigmoid else IMPORTED).name, clip


def _id_of(model: Model) -> str:
    """Return 24 hex characters that follow from the content of a model."""
    if isinstance(model, Clip):
        described: list[Any] = [model.config, asdict(model.preprocess_config), model.files]
    else:
        described = [asdict(model.config)]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for key, value in sorted(model.network.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:24]
