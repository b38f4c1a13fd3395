"""The state of one run under way, which its process passes around."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from finetuner.config.run_config import RunConfig
from finetuner.documents.pairs import Pair, read_pairs
from finetuner.workspace.datasets import Datasets
from finetuner.workspace.folder import Workspace

from .hooks.evaluation import Scores
from .run_folder import RunFolder
from .run_messages import RunRequest

if TYPE_CHECKING:
    from docarray import Document


@dataclass(frozen=True)
class RunContext:
    """One run: its request, its data, its folder and its scores."""

    request: RunRequest
    folder: RunFolder
    """The folder of the run; a scratch folder in every process but the first."""
    workspace: Workspace
    datasets: Datasets
    """The datasets of the workspace."""
    eval_pairs: Sequence[Pair]
    """Pairs of `eval_data`, which score a CLIP; empty without it, and for an image model."""
    scores: Scores
    """Metrics and examples, before and after training."""

    @classmethod
    def open(cls, request: RunRequest, folder: RunFolder) -> Self:
        """Return the context of a request.

        Raises:
            InvalidDocument: evaluation data that are no pairs.
        """
        workspace = Workspace(request.workspace)
        datasets = Datasets(workspace)
        eval_version = request.data.get("eval") if request.config.scores_eval_data else None
        eval_pairs = read_pairs(datasets.documents(eval_version)) if eval_version else []
        return cls(request, folder, workspace, datasets, eval_pairs, Scores(folder))

    @property
    def config(self) -> RunConfig:
        """The configuration of the run."""
        return self.request.config

    def documents(self, use: str) -> Iterable[Document] | None:
        """Return the documents of one use, such as 'train' or 'guard'; None if the run has no such data."""
        version = self.request.data.get(use)
        return None if version is None else self.datasets.documents(version)
