"""Publishes a model as an artifact: writes it under a temporary name, syncs it, and renames it in one step."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..workspace.folder import Workspace, publish_folder, temporary_folder
from .fingerprints import stored_fingerprints
from .manifest import FINGERPRINTS, MANIFEST, Manifest, sealed, sha256_of

if TYPE_CHECKING:
    from ..documents.pairs import Pair
    from ..models.model_kinds import Model

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
    may_publish: Callable[[], None] | None = None,
) -> Path:
    """Write an artifact into a workspace and return its folder.

    Args:
        workspace: the artifact becomes its folder `artifacts/<artifact_id>`.
        model: the tuned model.
        manifest: the manifest without `files` and fingerprints, which this function fills in.
        config: the run's configuration.
        examples: matches of example queries, {stage: {query: [match, ...]}}.
        to_onnx: True also writes each tower as ONNX and logs its difference from torch. 'int8' (CLIP only) adds
            ONNX files with int8 weights and logs their loss of recall.
        pairs: evaluation data for the recall of int8 weights.
        kept: files and folders to copy into the artifact: path inside the artifact -> source.
        may_publish: called right before the artifact becomes visible; raises if it must not.

    Raises:
        FinetunerError: a tower cannot be exported to ONNX. Nothing is published then.
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
        files = {
            path.relative_to(temporary).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of(path)}
            for path in sorted(path for path in temporary.rglob("*") if path.is_file())
        }
        training = dict(manifest.training)
        if fingerprints := stored_fingerprints(temporary / "models"):
            training[FINGERPRINTS] = fingerprints
        described = asdict(manifest) | {"training": training, "files": files}
        (temporary / MANIFEST).write_text(sealed(described))
        final = workspace.artifacts / manifest.artifact_id
        if may_publish is not None:
            may_publish()
        publish_folder(temporary, final)
        return final
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _export(model: Model, folder: Path, *, int8: bool, pairs: Sequence[Pair]) -> None:
    from ..models.clip import Clip
    from ..onnx.export import MAX_DIFFERENCE, export_int8, export_onnx

    for tower, difference in export_onnx(model, folder).items():
        log.info("ONNX of %s differs from torch by %.1e; at most %.0e is allowed", tower, difference, MAX_DIFFERENCE)
    if int8:
        assert isinstance(model, Clip)  # RunConfig refuses int8 for image models
        for line in export_int8(model, folder, pairs):
            log.info("%s", line)
