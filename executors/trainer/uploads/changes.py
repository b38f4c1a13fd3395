"""What is done to stored datasets without a file: edits, splits, and sample data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetuner.workspace.datasets import Datasets

from ..quota import UploadQuota
from .edits import Edit, Edits
from .samples import Samples
from .splits import Split, Splits

if TYPE_CHECKING:
    from finetuner.contract.parameters import Parameters

CHANGES = ("edit", "split", "sample")


class Changes:
    """Answers requests for changes of datasets.

    Args:
        datasets: of a workspace.
        quota: admits each part.
    """

    def __init__(self, datasets: Datasets, quota: UploadQuota) -> None:
        self._edits = Edits(datasets, quota)
        self._splits = Splits(datasets, quota)
        self._samples = Samples(datasets, quota)

    def answer(self, parameters: Parameters, owner: str) -> dict[str, Any] | None:
        """Do what one of the CHANGES asks for, and describe the result; None for a request without any.

        `edit`: see `Edit`. `split`: see `Split`. `sample`: name of the new dataset.
        """
        if (edit := parameters.get("edit")) is not None:
            return self._edits.edit(Edit.from_dict(edit), owner)
        if (split := parameters.get("split")) is not None:
            return self._splits.split(Split.from_dict(split), owner)
        if (name := parameters.get("sample")) is not None:
            return self._samples.make(name, owner)
        return None
