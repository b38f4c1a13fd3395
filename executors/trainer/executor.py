"""The trainer room: runs, datasets and artifacts of a workspace."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from docarray import Document, DocumentArray
from prometheus_client import Gauge
from sqlalchemy import URL

from executors.room.room import Room, control
from finetuner.artifacts.manifest import MANIFEST, read_manifest
from finetuner.artifacts.registry import ARTIFACT_ID, LIVE, SEARCHED, Models, weights_folder
from finetuner.config.run_callbacks import callback_datasets, read_callbacks
from finetuner.config.run_config import RunConfig
from finetuner.contract import wire
from finetuner.contract.checks import checked_name
from finetuner.contract.parameters import Parameters
from finetuner.contract.wire import CREATED, ENDED, RUN_STATES, STARTED
from finetuner.documents.content import DOCUMENTS, LABELLED, PAIRS, SCORED
from finetuner.documents.thumbnails import shrink
from finetuner.exceptions import ArtifactNotFound, CorruptedArtifact, InvalidInput
from finetuner.models.backbones import IMAGE_TASK, find_backbone, list_models
from finetuner.models.model_kinds import check_row_weights
from finetuner.workspace.datasets import Datasets
from finetuner.workspace.folder import remove

from .artifact_uploads import ArtifactUploads
from .history import read_history
from .hooks.tracker_checks import check_loggers
from .resume import require_same
from .run_folder import RunFolder
from .run_store import RunRecord, RunStore
from .supervisor import Supervisor

LOG_BYTES = 256 * 1024
MAX_SHOWN = 100  # documents, with a thumbnail or two each
KINDS = {
    PAIRS: "text-image pairs", LABELLED: "labelled images", SCORED: "scored pairs", DOCUMENTS: "other documents",
}  # fmt: skip


class Trainer(Room):
    """Records runs, carries them out one after the other, and keeps what they read and make.

    Args:
        threads: CPU threads of a training process; 0 leaves it to torch.
        checkpoint_seconds: between two checkpoints of a run, beside those at the end of each epoch.
        image_cache_gb: GB of decoded images that stay for later runs, the least recently used go first; 0 is none.
        kwargs: of `Room`.
    """

    def __init__(
        self, threads: int = 0, checkpoint_seconds: float = 600, image_cache_gb: float = 20, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._store = RunStore(URL.create("sqlite", database=str(self.shared_workspace.runs_database)))
        self._datasets = Datasets(self.shared_workspace)
        self._models = Models(self.shared_workspace)
        self._supervisor = Supervisor(
            self.shared_workspace,
            self._store,
            {"threads": threads, "checkpoint_seconds": checkpoint_seconds, "image_cache_gb": image_cache_gb},
        )
        self._uploads = ArtifactUploads(self.shared_workspace, self._store)
        runs = Gauge("finetuner_runs", "Runs by status", ["status"], registry=self.registry)
        for status in RUN_STATES:
            runs.labels(status).set_function(partial(self._store.count, status))

    def close(self) -> None:
        """Stop the training process; its run starts again with the next trainer of this workspace."""
        self._supervisor.close()
        self._store.close()

    @control(wire.FIT, "config")
    def fit(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Record a run and answer at once; `config` holds the fields of RunConfig."""
        config = RunConfig.from_dict(parameters["config"])
        check_row_weights(find_backbone(config.model), weights_folder(self.shared_workspace))
        data = {
            use: self._checked_data(f"{use}_data", name, config)
            for use, name in (("train", config.train_data), ("eval", config.eval_data), ("guard", config.guard_data))
            if name
        }
        callbacks = read_callbacks(config.callbacks)
        check_loggers(callbacks)
        for use, name in callback_datasets(callbacks).items():
            data[use] = self._datasets.find(name).version
        if config.resume_from:
            config = replace(config, resume_from=self._checked_resume(config, data))
        if config.model_artifact:  # an alias may point elsewhere by the time that the run starts
            config = replace(config, model_artifact=self._checked_start(config))
        return _described(self._store.create(config, data))

    @control(wire.RUNS_GET, "name", "experiment")
    def get_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Describe a run."""
        return _described(self._run(parameters))

    @control(wire.RUNS_LIST, "experiment")
    def list_runs(self, parameters: Parameters, _: DocumentArray) -> list[dict[str, Any]]:
        """Describe the runs of an experiment, or of all, oldest first."""
        return [_described(run) for run in self._store.all(parameters.text("experiment", "") or None)]

    @control(wire.RUNS_STATUS, "name", "experiment")
    def status_of_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Return {'status', 'details'}."""
        run = self._run(parameters)
        return {"status": run.status, "details": run.details}

    @control(wire.RUNS_LOGS, "name", "experiment", "offset")
    def logs_of_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Return {'text', 'offset', 'status'}: whole lines from a byte offset on, and where to go on from."""
        run = self._run(parameters)
        offset = parameters.whole("offset", 0, 0, 2**53)
        try:
            with open(self._folder(run).log, "rb") as log:
                log.seek(offset)
                content = log.read(LOG_BYTES)
        except FileNotFoundError:
            content = b""
        full, whole_lines = len(content) == LOG_BYTES, content[: content.rfind(b"\n") + 1]
        if (full and whole_lines) or (not full and run.status not in ENDED):  # a line longer than a page is cut
            content = whole_lines
        return {"text": content.decode(errors="replace"), "offset": offset + len(content), "status": run.status}

    @control(wire.RUNS_METRICS, "name", "experiment")
    def metrics_of_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Return {'status', 'scores': {'before', 'after'}, 'steps', 'evaluations'}; the last two as JSON lines."""
        run = self._run(parameters)
        folder = self._folder(run)
        lines = {"steps": _whole_lines(folder.metrics), "evaluations": _whole_lines(folder.evaluations)}
        return {"status": run.status, "details": run.details, "scores": folder.read("scores") or {}} | lines

    @control(wire.RUNS_HISTORY, "name", "experiment", "after")
    def history_of_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Return {'steps', 'evaluations'}, what came after a step; see `read_history`."""
        return read_history(self._folder(self._run(parameters)), parameters.whole("after", 0, 0, 2**53))

    @control(wire.RUNS_EXAMPLES, "name", "experiment")
    def examples_of_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Return {'status', 'examples': {'before': {query: [match, ...]}, 'after': {...}}}."""
        run = self._run(parameters)
        examples = self._folder(run).read("examples") or {}
        return {"status": run.status, "details": run.details, "examples": examples}

    @control(wire.RUNS_CANCEL, "name", "experiment")
    def cancel_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """End a run; one that has ended stays as it is."""
        self._supervisor.cancel(self._run(parameters))
        return _described(self._run(parameters))

    @control(wire.RUNS_RESUME, "name", "experiment")
    def resume_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Put a run that failed or was canceled back into the queue; it goes on from its checkpoint."""
        self._supervisor.resume(self._run(parameters))
        return _described(self._run(parameters))

    @control(wire.RUNS_DELETE, "name", "experiment")
    def delete_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Forget a run that has ended, with its log; its artifact stays."""
        run = self._run(parameters)
        self._require_ended(run)
        self._forget(run)
        return _described(run)

    @control(wire.EXPERIMENTS_CREATE, "name")
    def create_experiment(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Return the experiment of that name, made if it is not there yet."""
        return self._store.create_experiment(checked_name(parameters.get("name", "default"), "experiment name"))

    @control(wire.EXPERIMENTS_LIST)
    def list_experiments(self, parameters: Parameters, _: DocumentArray) -> list[dict[str, Any]]:
        """Return every experiment."""
        return self._store.experiments()

    @control(wire.EXPERIMENTS_DELETE, "name")
    def delete_experiment(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Forget an experiment and its runs, which must all have ended; artifacts stay."""
        name = parameters.text("name")
        runs = self._store.all(name)
        for run in runs:
            self._require_ended(run)
        for run in runs:
            self._forget(run)
        self._store.delete_experiment(name)
        return {"name": name, "runs": len(runs)}

    @control(wire.DATASETS_PUSH, "name", "upload", "part", "first", "commit", "version", "abort")
    def push(self, parameters: Parameters, docs: DocumentArray) -> dict[str, Any]:
        """Take an upload in parts.

        With documents: store part number `part` of `upload`, whose first document is number `first`. With `commit`
        = number of documents: name the whole, which must have the content hash `version` where one is given. With
        `abort`: forget the upload. With none of these: say which `parts` are here, and whether `version` is.
        """
        upload = parameters.text("upload")
        if parameters.flag("abort", False):
            self._datasets.forget(upload)
            return {"upload": upload}
        version = parameters.text("version", "")
        if parameters.get("commit") is not None:
            commit = parameters.whole("commit", 0, 0, 2**53)
            return vars(self._datasets.commit(parameters["name"], upload, commit, version))
        if parameters.get("part") is None and not len(docs):
            return {"parts": self._datasets.uploaded(upload), "stored": self._datasets.holds(version)}
        part = parameters.whole("part", 0, 0, 2**53)
        self._datasets.add_part(upload, part, docs, parameters.whole("first", 0, 0, 2**53))
        return {"upload": upload, "part": part, "documents": len(docs)}

    @control(wire.DATASETS_PULL, "name", "version", "part")
    def pull(self, parameters: Parameters, _: DocumentArray) -> DocumentArray:
        """Return the documents of one part of `version`, or of what `name` means now; none past the last."""
        version = parameters.text("version", "") or self._datasets.find(parameters.text("name")).version
        return self._datasets.part(version, parameters.whole("part", 0, 0, 2**53))

    @control(wire.DATASETS_SHOW, "version", "offset", "limit", beside=True)
    def show(self, parameters: Parameters, _: DocumentArray) -> DocumentArray:
        """Return documents of `version` from position `offset` on, their images as thumbnails."""
        offset, limit = parameters.whole("offset", 0, 0, 2**53), parameters.whole("limit", 20, 1, MAX_SHOWN)
        documents = self._datasets.page(parameters.text("version"), offset, limit)
        for document in documents:
            document.pop("embedding")
            shrink(document)
        return documents

    @control(wire.DATASETS_LIST, "name")
    def list_datasets(self, parameters: Parameters, _: DocumentArray) -> list[dict[str, Any]]:
        """Describe every dataset, or the one called `name`."""
        name = parameters.text("name", "")
        return [vars(dataset) for dataset in ([self._datasets.find(name)] if name else self._datasets.all())]

    @control(wire.DATASETS_DELETE, "name")
    def delete_dataset(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Forget a dataset that no unfinished run reads."""
        dataset = self._datasets.find(parameters.text("name"))
        for run in self._store.with_status(CREATED, STARTED):
            if dataset.version in run.data.values():
                raise InvalidInput(
                    f"dataset must not be in use. Got {dataset.name!r}, which run {run.name!r} reads. Cancel it first."
                )
        return vars(self._datasets.delete(dataset.name))

    @control(wire.ARTIFACTS_LIST)
    def list_artifacts(self, parameters: Parameters, _: DocumentArray) -> list[dict[str, Any]]:
        """Describe every published artifact, oldest first, with the aliases that point to it."""
        aliases: dict[str, list[str]] = {}
        for alias, target in self.shared_workspace.aliases.all():
            aliases.setdefault(target["artifact"], []).append(alias)
        folders = [path for path in self.shared_workspace.artifacts.glob("*") if ARTIFACT_ID.fullmatch(path.name)]
        manifests = []
        for folder in folders:
            try:
                manifests.append(read_manifest(folder))
            except CorruptedArtifact as error:
                self.logger.error(f"{folder.name} is left out of the list: {error}")
        manifests.sort(key=lambda manifest: manifest.created_at)
        return [vars(manifest) | {"aliases": aliases.get(manifest.artifact_id, [])} for manifest in manifests]

    @control(wire.ARTIFACTS_PULL, "artifact", "file", "offset")
    def pull_artifact(self, parameters: Parameters, _: DocumentArray) -> DocumentArray | dict[str, Any]:
        """Return the manifest, or, with `file`, at most 8 MiB of that file from `offset` on, as a blob."""
        artifact_id = self._models.resolve(parameters.text("artifact"))
        if not ARTIFACT_ID.fullmatch(artifact_id):
            raise ArtifactNotFound(f"artifact must be published by a run. Got {artifact_id!r}, a backbone.")
        folder = self.shared_workspace.artifacts / artifact_id
        name = parameters.text("file", "")
        if not name:
            return {"manifest": (folder / MANIFEST).read_text()}
        if name not in read_manifest(folder).files:
            raise ArtifactNotFound(f"file must be listed in the manifest of {artifact_id}. Got {name!r}.")
        with open(folder / name, "rb") as file:
            file.seek(parameters.whole("offset", 0, 0, 2**53))
            return DocumentArray([Document(blob=file.read(wire.PIECE_BYTES))])

    @control(wire.ARTIFACTS_PUSH, "upload", "offset", "commit", "abort", beside=True)
    def push_artifact(self, parameters: Parameters, docs: DocumentArray) -> dict[str, Any]:
        """Take an artifact's zip in parts.

        With a document: its blob is the part from byte `offset` on. With `commit` = bytes of the whole: check it,
        publish it and return its manifest. With `abort`: forget the upload.
        """
        upload = parameters.text("upload")
        if parameters.flag("abort", False):
            self._uploads.forget(upload)
            return {"upload": upload}
        if parameters.get("commit") is not None:
            return vars(self._uploads.commit(upload, parameters.whole("commit", 0, 0, 2**53)))
        content = docs[0].blob if len(docs) else b""
        if len(docs):
            docs[0].pop("blob")  # a document refers to itself: it would keep the blob until the collector comes
        return {"upload": upload, "size": self._uploads.add(upload, parameters.whole("offset", 0, 0, 2**53), content)}

    @control(wire.ARTIFACTS_PROMOTE, "artifact", "alias")
    def promote(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Let an alias, `live` by default, point to an artifact or back to a backbone."""
        alias = checked_name(parameters.text("alias", LIVE), "alias")
        if ARTIFACT_ID.fullmatch(alias) or alias in list_models():
            raise InvalidInput(f"alias must be no artifact id and no backbone. Got {alias!r}. Choose another one.")
        if alias == SEARCHED:
            raise InvalidInput(f"alias must not be {alias!r}, which follows {LIVE!r} by itself. Promote {LIVE!r}.")
        target = self._models.resolve(parameters.text("artifact"))
        self.shared_workspace.aliases.set(alias, {"artifact": target, "promoted_at": time.time()})
        return {"alias": alias, "artifact": target}

    def _checked_data(self, field: str, name: str, config: RunConfig) -> str:
        """Return the version of a dataset, which must hold what the run's model learns from."""
        dataset = self._datasets.find(name)
        wanted = LABELLED if find_backbone(config.model).task == IMAGE_TASK else PAIRS
        if dataset.kind and dataset.kind != wanted:
            raise InvalidInput(
                f"{field} must be a dataset of {KINDS[wanted]} for {config.model}. Got {name!r}, which holds "
                f"{KINDS[dataset.kind]}. Choose another dataset, or another model."
            )
        return dataset.version

    def _checked_start(self, config: RunConfig) -> str:
        """Return the artifact id that `model_artifact` means now, '' where it means the backbone itself."""
        start, backbone = self._models.resolve(config.model_artifact), find_backbone(config.model).name
        tuned = bool(ARTIFACT_ID.fullmatch(start))
        origin = read_manifest(self.shared_workspace.artifacts / start).backbone if tuned else start
        if origin != backbone:
            raise InvalidInput(
                f"model must be the backbone of model_artifact {config.model_artifact!r}, which is {origin}. "
                f"Got {backbone}. Pass model={origin!r}."
            )
        return start if tuned else ""

    def _checked_resume(self, config: RunConfig, data: Mapping[str, str]) -> str:
        """Return the artifact id of the run to go on from, whose checkpoint must fit this one."""
        earlier = self._store.get(config.resume_from, config.experiment_name)
        self._require_ended(earlier)
        if not self._folder(earlier).checkpoint.exists():
            raise InvalidInput(
                f"resume_from must be a run with a checkpoint. Got {earlier.name!r}, which is {earlier.status} and has "
                f"none. Go on from a finished run's model with model_artifact."
            )
        require_same(config, RunConfig.from_dict(earlier.config), data, earlier.data)
        return earlier.artifact_id

    def _require_ended(self, run: RunRecord) -> None:
        if run.status not in ENDED:
            raise InvalidInput(f"run must have ended. Got {run.name!r}, which is {run.status}. Cancel it first.")

    def _forget(self, run: RunRecord) -> None:
        self._store.delete(run.artifact_id)
        if self._folder(run).path.is_dir():
            remove(self._folder(run).path)

    def _run(self, parameters: Parameters) -> RunRecord:
        return self._store.get(parameters.text("name"), parameters.text("experiment", "default"))

    def _folder(self, run: RunRecord) -> RunFolder:
        return self._supervisor.folder(run)


def _whole_lines(path: Path) -> str:
    """Return a file's text up to its last line break: the worker may be writing."""
    content = path.read_text() if path.exists() else ""
    return content[: content.rfind("\n") + 1]


def _described(run: RunRecord) -> dict[str, Any]:
    return {
        "name": run.name,
        "experiment": run.experiment,
        "artifact_id": run.artifact_id,
        "config": run.config,
        "status": run.status,
        "details": run.details,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
    }
