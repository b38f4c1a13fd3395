"""Checks of a new run against the workspace: its data, the weights it starts from, and the checkpoint it resumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial

from finetuner.artifacts.manifest import read_manifest
from finetuner.artifacts.registry import ARTIFACT_ID, Models, weights_folder
from finetuner.config.losses import require_scores
from finetuner.config.run_callbacks import callback_datasets, read_callbacks
from finetuner.config.run_config import RunConfig
from finetuner.contract.wire import ENDED
from finetuner.documents.content import DOCUMENTS, KIND_OF_TASK, LABELLED, PAIRS, SCORED, check_kind
from finetuner.documents.iterate import read_each
from finetuner.documents.scores import document_has_score, scored_alike
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.models.backbones import find_backbone
from finetuner.models.model_kinds import check_row_weights
from finetuner.workspace.datasets import Datasets
from finetuner.workspace.folder import Workspace

from .devices import Devices
from .hooks.tracker_checks import check_loggers
from .run_folder import RunFolder
from .run_store import RunRecord, RunStore

KINDS = {
    PAIRS: "text-image pairs", LABELLED: "labelled images", SCORED: "scored pairs", DOCUMENTS: "other documents",
}  # fmt: skip
USES = ("train", "eval", "guard", "replay")
FREE = (
    "run_name", "experiment_name", "description", "device", "num_workers", "to_onnx", "resume_from", "recipe",
    "recipe_choice",
)  # fmt: skip
"""Fields of the configuration that do not decide the weights."""
DATA = tuple(f"{use}_data" for use in USES)
"""Names of datasets; the content hashes are compared in their place."""


class RunChecks:
    """The checks at /fit, before a run is recorded.

    Args:
        workspace: of the trainer.
        store: the runs.
        datasets: of the workspace.
        models: of the workspace.
        devices: of this machine.
    """

    def __init__(
        self, workspace: Workspace, store: RunStore, datasets: Datasets, models: Models, devices: Devices
    ) -> None:
        self._workspace = workspace
        self._store = store
        self._datasets = datasets
        self._models = models
        self._devices = devices

    def check(self, config: RunConfig) -> tuple[RunConfig, dict[str, str]]:
        """Return the configuration with every reference resolved, and the content hashes of its data by use.

        An alias or a dataset name may point elsewhere by the time the run starts. Ids and hashes stay.

        Raises:
            InvalidInput: data of another kind, scores below 0 or of some pairs only, options for scores of data
                without, a wrong start, a checkpoint that does not fit, or too few GPUs.
            DatasetNotFound, ArtifactNotFound, RunNotFound: a name that does not exist.
        """
        self._devices.check(config)
        row = find_backbone(config.model)
        if not (row.in_artifacts and config.model_artifact):
            check_row_weights(row, weights_folder(self._workspace))
        data = {
            use: self._version(f"{use}_data", name, config) for use in USES if (name := getattr(config, f"{use}_data"))
        }
        if "replay" in data and data["replay"] == data.get("guard"):
            raise InvalidInput(
                f"replay_data must not be the guard_data, which would measure pairs that it trains on. Got "
                f"{config.replay_data!r} and {config.guard_data!r}, which hold the same. Split them."
            )
        if self._datasets.find(config.train_data).kind == PAIRS:
            require_scores(config.loss_options)
        callbacks = read_callbacks(config.callbacks)
        check_loggers(callbacks)
        for use, name in callback_datasets(callbacks).items():
            data[use] = self._datasets.find(name).version
        if config.resume_from:
            config = replace(config, resume_from=self._resumed(config, data))
        if config.model_artifact:
            config = replace(config, model_artifact=self._start(config))
        return config, data

    def _version(self, field: str, name: str, config: RunConfig) -> str:
        """Return the content hash of a dataset, which must hold the kind of data that the model learns from."""
        dataset = self._datasets.find(name)
        wanted = KIND_OF_TASK[find_backbone(config.model).task]
        if dataset.kind and dataset.kind != wanted:
            trouble = self._trouble(dataset.version, wanted, field)
            if dataset.kind == SCORED and wanted == PAIRS and not trouble:
                return dataset.version
            raise InvalidInput(
                f"{field} must be a dataset of {KINDS[wanted]} for {config.model}. Got {name!r}, which holds "
                f"{KINDS[dataset.kind]}. {trouble} Or choose another dataset."
            )
        return dataset.version

    def _trouble(self, version: str, kind: str, field: str) -> str:
        """Return the error of the first document that cannot be used as one of a kind, or of scores that some lack."""
        documents = scored_alike(self._datasets.documents(version), document_has_score, field)
        try:
            for _ in read_each(documents, partial(check_kind, kind=kind)):
                pass
        except InvalidDocument as error:
            return f"The first one that cannot be used is {error}"
        except InvalidInput as error:
            return str(error)
        return ""

    def _start(self, config: RunConfig) -> str:
        """Return the artifact id behind `model_artifact`, '' for the backbone itself."""
        start, backbone = self._models.resolve(config.model_artifact), find_backbone(config.model).name
        tuned = bool(ARTIFACT_ID.fullmatch(start))
        origin, dim = start, 0
        if tuned:
            manifest = read_manifest(self._workspace.artifacts / start)
            origin, dim = manifest.backbone, manifest.output_dim
        if origin != backbone:
            raise InvalidInput(
                f"model must be the backbone of model_artifact {config.model_artifact!r}, which is {origin}. "
                f"Got {backbone}. Pass model={origin!r}."
            )
        if dim and config.matryoshka is not None:
            config.matryoshka.check_below(dim)
        return start if tuned else ""

    def _resumed(self, config: RunConfig, data: Mapping[str, str]) -> str:
        """Return the artifact id of the run to resume from, whose checkpoint must fit the new run."""
        earlier = self._store.get(config.resume_from, config.experiment_name)
        require_ended(earlier)
        if not RunFolder(self._workspace.run(earlier.artifact_id)).checkpoint.exists():
            raise InvalidInput(
                f"resume_from must be a run with a checkpoint. Got {earlier.name!r}, which is {earlier.status} and has "
                f"none. Start from a finished run's model with model_artifact."
            )
        require_same(config, RunConfig.from_dict(earlier.config), data, earlier.data)
        return earlier.artifact_id


def require_ended(run: RunRecord) -> None:
    """Check that a run has ended.

    Raises:
        InvalidInput: it waits or trains.
    """
    if run.status not in ENDED:
        raise InvalidInput(f"run must have ended. Got {run.name!r}, which is {run.status}. Cancel it first.")


def require_same(
    config: RunConfig, earlier: RunConfig, data: Mapping[str, str], earlier_data: Mapping[str, str]
) -> None:
    """Check that two runs agree in everything that decides the weights.

    Without a schedule the number of epochs may grow.

    Args:
        config: of the new run.
        earlier: of the run with the checkpoint.
        data: the new run's data by use, as content hashes.
        earlier_data: the same of the earlier run.

    Raises:
        InvalidInput: names the first field that differs.
    """
    for name in (entry.name for entry in fields(RunConfig)):
        if name in (*FREE, *DATA):
            continue
        now, then = getattr(config, name), getattr(earlier, name)
        longer = name == "epochs" and now > then and config.scheduler in (None, "constant")
        if now != then and not longer:
            raise InvalidInput(
                f"{name} must be that of the run {earlier.run_name!r} to resume from: {then!r}. Got {now!r}. "
                f"Change it back, or start a new run without resume_from."
            )
    for use in sorted({*data, *earlier_data}):
        if data.get(use) != earlier_data.get(use):
            raise InvalidInput(
                f"the data for {use!r} must be that of the run {earlier.run_name!r} to resume from. Got other content. "
                f"Push the same data, or start a new run without resume_from."
            )
