"""The report on a stored dataset, made once by a process of its own, and kept beside the dataset."""

from __future__ import annotations

import hashlib
import json
import subprocess
from threading import Lock
from typing import Any

from finetuner.contract.environment import without_secrets
from finetuner.exceptions import InvalidInput, ResourceExhausted
from finetuner.flow import prepared
from finetuner.models.backbones import find_backbone
from finetuner.workspace.datasets import Datasets
from finetuner.workspace.folder import DAMAGE, Workspace

REPORTER = "finetuner.statistics.stored"
SECONDS = 330
FORMAT = 1  # raise it when reports change


class Reports:
    """The reports on the datasets of a workspace.

    Args:
        workspace: holds the datasets.
        datasets: of the workspace.
    """

    def __init__(self, workspace: Workspace, datasets: Datasets) -> None:
        self._workspace = workspace
        self._datasets = datasets
        self._making = Lock()

    def report(self, name: str, evaluation: str, model: str) -> dict[str, Any]:
        """Return the report on a dataset; see `finetuner.statistics.report.Report`.

        Args:
            name: of the dataset.
            evaluation: name of evaluation data, '' for none.
            model: backbone whose tokenizer counts.

        Raises:
            DatasetNotFound: no dataset of a name.
            NoSuchModel: unknown backbone.
            ResourceExhausted: another report is being made.
            InvalidInput: a dataset that takes too long or too much memory.
        """
        row = find_backbone(model)
        version = self._datasets.find(name).version
        scored = self._datasets.find(evaluation).version if evaluation else ""
        key = hashlib.sha256(f"{FORMAT} {version} {scored} {row.name}".encode()).hexdigest()[:16]
        target = self._workspace.datasets / version / f"report-{key}.json"
        try:
            return dict(json.loads(target.read_bytes()))
        except (OSError, *DAMAGE):
            pass
        if not self._making.acquire(blocking=False):
            raise ResourceExhausted("one report is made at a time. Another is being made. Ask again later.")
        asked = {
            "workspace": str(self._workspace.root),
            "version": version,
            "evaluation": scored,
            "model": row.name,
            "target": str(target),
        }
        request = target.with_suffix(".request")
        try:
            request.write_text(json.dumps(asked))
            prepared.run(REPORTER, [str(request)], without_secrets(), SECONDS)
            return dict(json.loads(target.read_bytes()))
        except (subprocess.TimeoutExpired, OSError, *DAMAGE) as error:
            raise InvalidInput(
                f"dataset must be read within {SECONDS} s and its memory. Got no report on {name!r} "
                f"({type(error).__name__}). Call `finetuner data stats` on your own machine."
            ) from None
        finally:
            request.unlink(missing_ok=True)
            self._making.release()
