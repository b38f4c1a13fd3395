"""The manifests of all artifacts of a workspace."""

from __future__ import annotations

from typing import Any

from finetuner.artifacts.manifest import Manifest, read_manifest
from finetuner.artifacts.registry import ARTIFACT_ID
from finetuner.exceptions import ArtifactNotFound, CorruptedArtifact
from finetuner.workspace.folder import Workspace


def manifests_of(workspace: Workspace) -> tuple[list[Manifest], list[str]]:
    """Return the manifests of all artifacts, and one sentence for each artifact without a readable one."""
    manifests, problems = [], []
    for folder in workspace.artifacts.glob("*"):
        if ARTIFACT_ID.fullmatch(folder.name):
            try:
                manifests.append(read_manifest(folder))
            except (CorruptedArtifact, ArtifactNotFound, OSError) as error:
                problems.append(f"artifact {folder.name} is left out of the list: {error}")
    return manifests, problems


def described(workspace: Workspace) -> list[dict[str, Any]]:
    """Describe all published artifacts, oldest first, each with the aliases that point to it."""
    aliases: dict[str, list[str]] = {}
    for alias, target in workspace.aliases.all():
        aliases.setdefault(target["artifact"], []).append(alias)
    manifests = sorted(manifests_of(workspace)[0], key=lambda manifest: manifest.created_at)
    return [vars(manifest) | {"aliases": aliases.get(manifest.artifact_id, [])} for manifest in manifests]
