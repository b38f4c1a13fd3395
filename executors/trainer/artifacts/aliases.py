"""Aliases of artifacts, with what they meant before."""

from __future__ import annotations

import time
from typing import Any

from finetuner.artifacts.manifest import read_manifest
from finetuner.artifacts.registry import ARTIFACT_ID, LIVE, SEARCHED, Models
from finetuner.contract.checks import checked_name
from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.models.backbones import list_models
from finetuner.workspace.folder import Workspace

from .promotion import refuse_regression

MOST_BEFORE = 20


class Aliases:
    """The aliases of a workspace.

    Args:
        workspace: holds aliases and artifacts.
        models: says what a reference means.
    """

    def __init__(self, workspace: Workspace, models: Models) -> None:
        self._workspace, self._aliases, self._models = workspace, workspace.aliases, models

    def promote(self, reference: str, alias: str, force: bool, tolerance: float) -> dict[str, Any]:
        """Point an alias to an artifact or backbone, and keep what it meant before.

        Args:
            reference: the new target.
            alias: its name.
            force: promote an artifact that became worse by tuning.
            tolerance: see `refuse_regression`.

        Raises:
            InvalidInput: a name that is taken, or a worse artifact without `force`.
            ArtifactNotFound: no such target.
        """
        checked_name(alias, "alias")
        if ARTIFACT_ID.fullmatch(alias) or alias in list_models():
            raise InvalidInput(f"alias must be no artifact id and no backbone. Got {alias!r}. Choose another one.")
        if alias == SEARCHED:
            raise InvalidInput(f"alias must not be {alias!r}, which follows {LIVE!r} by itself. Promote {LIVE!r}.")
        target = self._models.resolve(reference)
        if ARTIFACT_ID.fullmatch(target) and not force:
            refuse_regression(read_manifest(self._workspace.artifacts / target), tolerance)
        now = {"artifact": target, "promoted_at": time.time(), "before": self._before(alias, target)}
        self._aliases.set(alias, now)
        return {"alias": alias, "artifact": target}

    def described(self) -> list[dict[str, Any]]:
        """Return {'alias', 'artifact', 'promoted_at', 'before'} of each alias, by name; the last of `before` first."""
        found = []
        for alias, target in self._aliases.all():
            if alias != SEARCHED:
                shown = {"artifact": target["artifact"], "promoted_at": target.get("promoted_at")}
                found.append({"alias": alias, **shown, "before": _history(target)})
        return found

    def _before(self, alias: str, target: str) -> list[dict[str, Any]]:
        try:
            present = self._aliases.get(alias)
        except FinetunerError:  # damaged: this promotion mends it
            return []
        if present is None:  # only `live` means something before
            first = self._models.resolve(LIVE) if alias == LIVE else target
            return [] if first == target else [{"artifact": first, "promoted_at": None}]
        if present["artifact"] == target:
            return _history(present)
        last = {"artifact": present["artifact"], "promoted_at": present.get("promoted_at")}
        return [last, *_history(present)][:MOST_BEFORE]


def _history(target: dict[str, Any]) -> list[dict[str, Any]]:
    given = target.get("before")
    return [each for each in given if isinstance(each, dict) and "artifact" in each] if isinstance(given, list) else []
