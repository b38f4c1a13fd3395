"""Publishes a model as an artifact: written under a temporary name, synced, then renamed in one step."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..workspace.folder import Workspace, publish_folder, temporary_folder

if TYPE_CHECKING:
    from ..documents.pairs import Pair
    from ..models.model_kinds import Model
from .manifest import (
    MANIFEST,
    Manifest,
    sealed,
    sha256_of,
)

log = logging.getLogger("finetuner")


def publish_artifact(
    workspace: Workspace,
    model: Model,
    manifest: Manifest,
    config: Mapping[str, Any],
    examples: Mapping[str, Any] | None = None,
    *,
    to_onnx: bool | str = False,
    pairs: Sequence[Pair] = (),
    kept: Mapping[str, Path] | None = None,
) -> Path:
    """Write an artifact and give it its final name in one step.

    Args:
        workspace: gets the folder `artifacts/<artifact_id>`.
        model: the tuned model.
        manifest: without `files`, which are filled in here.
        config: of the run.
        examples: what queries found, {stage: {query: [match, ...]}}.
        to_onnx: write each tower as ONNX, too, and log how far it is from torch; 'int8' of a CLIP: once more with int8
            weights, and log what those cost.
        pairs: evaluation data for that.
        kept: files and folders that the run left for the artifact, by their path inside it.

    Returns:
        The artifact's folder.

    Raises:
        FinetunerError: a tower cannot be had as ONNX; nothing is published then.
    """
    import yaml

    from ..models.model_kinds import save_model

    temporary = temporary_folder(workspace.artifacts)
    try:
        save_model(model, temporary / "models")
        if to_onnx:
            _export(model, temporary / "models", int8=to_onnx == "int8", pairs=pairs)
        for name, source in (kept or {}).items():
            (temporary / name).parent.mkdir(exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, temporary / name)
        (temporary / "config.yml").write_text(yaml.safe_dump(dict(config), sort_keys=False))
        (temporary / "metrics.yml").write_text(yaml.safe_dump(manifest.metrics, sort_keys=False))
        if examples:
            (temporary / "example-results.yml").write_text(yaml.safe_dump(dict(examples), sort_keys=False))
        described = asdict(manifest) | {"files": {}}
        for path in sorted(path for path in temporary.rglob("*") if path.is_file()):
            name = path.relative_to(temporary).as_posix()
            described["files"][name] = {"size": path.stat().st_size, "sha256": sha256_of(path)}
        (temporary / MANIFEST).write_text(sealed(described))
        final = workspace.artifacts / manifest.artifact_id
        publish_folder(temporary, final)
        return final
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _export(model: Model, folder: Path, *, int8: bool, pairs: Sequence[Pair]) -> None:
    from ..models.clip import Clip
    from ..onnx.export import MAX_DIFFERENCE, export_int8, export_onnx

    for tower, difference in export_onnx(model, folder).items():
        log.info("ONNX of %s differs from torch by %.1e, of %.0e allowed", tower, difference, MAX_DIFFERENCE)
    if int8:
        assert isinstance(model, Clip)  # RunConfig refuses it for images
        for line in export_int8(model, folder, pairs):
            log.info("%s", line)
