"""The endpoints of the trainer room: runs, datasets and artifacts of a workspace."""

from __future__ import annotations

from typing import Any

from docarray import Document, DocumentArray

from finetuner.artifacts.manifest import MANIFEST, read_manifest
from finetuner.artifacts.registry import ARTIFACT_ID, LIVE, Models
from finetuner.config.run_config import RunConfig
from finetuner.contract import wire
from finetuner.contract.checks import checked_name
from finetuner.contract.parameters import Parameters
from finetuner.contract.wire import CREATED, STARTED
from finetuner.database.shared import shared_database
from finetuner.documents.thumbnails import shrink
from finetuner.exceptions import ArtifactNotFound, InsufficientStorage, InvalidInput
from finetuner.executors.room.room import Room, control
from finetuner.workspace.datasets import Datasets
from finetuner.workspace.folder import remove

from .artifacts.aliases import Aliases
from .artifacts.exports import Exports
from .artifacts.manifests import described, manifests_of
from .artifacts.uploads import ArtifactUploads
from .curve import read_curve
from .devices import Devices, find_gpus
from .leases import Leases
from .listing.edits import Edit
from .listing.run_list import RunList
from .listing.wanted import FILTERS, Wanted
from .quota import UploadQuota, mark_owner
from .run_checks import RunChecks, require_ended
from .run_folder import RunFolder
from .run_store import RunRecord, RunStore
from .settings import TrainerSettings
from .supervisor import Supervisor
from .uploads.files import UPLOAD_PARAMETERS, FileUploads
from .uploads.reports import Reports

MAX_SHOWN = 100  # documents, each with one or two thumbnails


class Trainer(Room):
    """The trainer room: records runs, starts them as their devices become free, and keeps datasets and artifacts.

    Args:
        kwargs: the settings, and Jina's own arguments.
    """

    settings: TrainerSettings

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        workspace, devices = self.shared_workspace, Devices(find_gpus(self.settings.gpus))
        self._store = RunStore(shared_database(workspace.root) or workspace.runs_database)
        self._list = RunList(self._store, workspace.run)
        self._datasets = Datasets(workspace)
        self._models = Models(workspace)
        self._checks = RunChecks(workspace, self._store, self._datasets, self._models, devices)
        leases = Leases(self._store.database, self.settings.owner, self.settings.lease_seconds)
        self._supervisor = Supervisor(workspace, self._store, devices, self.settings.of_workers(), leases)
        self._quota = UploadQuota(workspace, self.settings.upload_quota_gb * 1e9, self.settings.min_free_mb * 2**20)
        self._uploads = ArtifactUploads(workspace, self._store, self._quota)
        self._aliases = Aliases(workspace, self._models)
        self._exports = Exports(workspace, self._quota)
        self._files = FileUploads(workspace, self._datasets, self._quota)
        self._reports = Reports(workspace, self._datasets)
        self._store.show(self.registry)

    def close(self) -> None:
        """Stop all training processes; the next trainer of this workspace resumes their runs."""
        self._supervisor.close()
        self._store.close()

    @control(wire.FIT, "config")
    def fit(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Check and record a run, and answer at once; `config` holds the fields of RunConfig."""
        config = RunConfig.from_dict(parameters["config"])
        return self._described(self._store.create(*self._checks.check(config)))

    @control(wire.RUNS_GET, "name", "experiment")
    def get_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Describe a run."""
        return self._described(self._run(parameters))

    @control(wire.RUNS_LIST, "experiment")
    def list_runs(self, parameters: Parameters, _: DocumentArray) -> list[dict[str, Any]]:
        """Describe the runs of an experiment, or of all, oldest first."""
        return self._list.described(self._store.all(parameters.text("experiment", "") or None))

    @control(wire.RUNS_PAGE, *FILTERS, beside=True)
    def page_of_runs(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Return {'items', 'total'}: one page of the runs that the filters leave, each with its `metrics`."""
        return self._list.page_described(Wanted.read(parameters))

    @control(wire.RUNS_CHANGES)
    def changes_of_runs(self, _: Parameters, __: DocumentArray) -> dict[str, Any]:
        """Return {'version', 'counts'}; the version differs after each change of the list of runs."""
        return self._list.changes()

    @control(wire.RUNS_EDIT, "name", "experiment", "new_name", "note", "tags")
    def edit_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Change what people call a run: its name, once it has ended, its note and its tags."""
        self._list.edit(run := self._run(parameters), edit := Edit.read(parameters))
        return self._described(self._store.get(edit.new_name or run.name, run.experiment))

    @control(wire.RUNS_STATUS, "name", "experiment")
    def status_of_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Return {'status', 'details'}."""
        run = self._run(parameters)
        return {"status": run.status, "details": run.details}

    @control(wire.RUNS_LOGS, "name", "experiment", "offset")
    def logs_of_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Return {'text', 'offset', 'status'}: whole lines from a byte offset on, and the next offset."""
        run = self._run(parameters)
        offset = parameters.whole("offset", 0, 0, 2**53)
        content = self._folder(run).read_log(offset, ended=run.status in wire.ENDED)
        return {"text": content.decode(errors="replace"), "offset": offset + len(content), "status": run.status}

    @control(wire.RUNS_METRICS, "name", "experiment", "after")
    def metrics_of_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Return {'status', 'details', 'scores': {'before', 'after'}, 'steps', 'evaluations'}; see `read_curve`."""
        run = self._run(parameters)
        folder = self._folder(run)
        curve = read_curve(folder, parameters.whole("after", 0, 0, 2**53))
        return {"status": run.status, "details": run.details, "scores": folder.read("scores") or {}} | curve

    @control(wire.RUNS_EXAMPLES, "name", "experiment")
    def examples_of_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Return {'status', 'examples': {'before': {query: [match, ...]}, 'after': {...}}}."""
        run = self._run(parameters)
        examples = self._folder(run).read("examples") or {}
        return {"status": run.status, "details": run.details, "examples": examples}

    @control(wire.RUNS_CANCEL, "name", "experiment")
    def cancel_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Cancel a run; a run that has ended stays as it is."""
        self._supervisor.cancel(self._run(parameters))
        return self._described(self._run(parameters))

    @control(wire.RUNS_RESUME, "name", "experiment")
    def resume_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Put a failed or canceled run back into its queue; it resumes from its checkpoint."""
        self._supervisor.resume(self._run(parameters))
        return self._described(self._run(parameters))

    @control(wire.RUNS_DELETE, "name", "experiment")
    def delete_run(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Delete an ended run with its log; its artifact stays. Of a damaged run only the row goes."""
        named = {"name": parameters.text("name"), "experiment": parameters.text("experiment", "default")}
        if self._store.delete_damaged(**named):
            return named
        run = self._run(parameters)
        require_ended(run)
        self._delete(run)
        return self._described(run)

    @control(wire.EXPERIMENTS_CREATE, "name")
    def create_experiment(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Return the experiment of this name; create it if it does not exist."""
        return self._store.create_experiment(checked_name(parameters.get("name", "default"), "experiment name"))

    @control(wire.EXPERIMENTS_LIST)
    def list_experiments(self, parameters: Parameters, _: DocumentArray) -> list[dict[str, Any]]:
        """Return every experiment."""
        return self._store.experiments()

    @control(wire.EXPERIMENTS_DELETE, "name")
    def delete_experiment(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Delete an experiment and its runs, which must all have ended; artifacts stay."""
        name = parameters.text("name")
        runs = self._store.all(name)
        for run in runs:
            require_ended(run)
        for run in runs:
            self._delete(run)
        self._store.delete_experiment(name)
        return {"name": name, "runs": len(runs)}

    @control(wire.DATASETS_PUSH, "name", "upload", "part", "first", "commit", "version", "abort", wire.OWNER)
    def push(self, parameters: Parameters, docs: DocumentArray) -> dict[str, Any]:
        """Take a dataset in parts.

        Documents: store them as part number `part` of `upload`; the first of them is number `first`.
        `commit` = number of documents: give the whole a name. It must have the content hash `version`, if given.
        `abort`: remove the upload. None of these: return the stored `parts`, and whether `version` is stored.
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
        owner = parameters.text(wire.OWNER, "")

        def admit(size: int) -> None:
            self._quota.admit(owner, size)
            mark_owner(self._datasets.upload_folder(upload), owner)

        try:
            self._datasets.add_part(upload, part, docs, parameters.whole("first", 0, 0, 2**53), admit)
        except InsufficientStorage:
            self._datasets.forget(upload)
            raise
        return {"upload": upload, "part": part, "documents": len(docs)}

    @control(wire.DATASETS_UPLOAD, *UPLOAD_PARAMETERS, beside=True)
    def upload_file(self, parameters: Parameters, docs: DocumentArray) -> dict[str, Any]:
        """Take a file in pieces, and make a dataset of it; see `FileUploads.answer`."""
        return self._files.answer(parameters, docs)

    @control(wire.DATASETS_STATS, "name", "eval", "model", beside=True)
    def describe_dataset(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Return the report on a dataset: its statistics, and what predicts trouble."""
        model = parameters.text("model", "clip-base-en")
        return self._reports.report(parameters.text("name"), parameters.text("eval", ""), model)

    @control(wire.DATASETS_PULL, "name", "version", "part")
    def pull(self, parameters: Parameters, _: DocumentArray) -> DocumentArray:
        """Return the documents of one part of `version`, or of the current version of `name`; none past the last."""
        version = parameters.text("version", "") or self._datasets.find(parameters.text("name")).version
        return self._datasets.part(version, parameters.whole("part", 0, 0, 2**53))

    @control(wire.DATASETS_SHOW, "version", "offset", "limit", beside=True)
    def show(self, parameters: Parameters, _: DocumentArray) -> DocumentArray:
        """Return documents of `version` from position `offset` on, with thumbnails in place of images."""
        offset, limit = parameters.whole("offset", 0, 0, 2**53), parameters.whole("limit", 20, 1, MAX_SHOWN)
        documents = self._datasets.page(parameters.text("version"), offset, limit)
        for document in documents:
            document.pop("embedding")
            shrink(document)
        return documents

    @control(wire.DATASETS_LIST, "name")
    def list_datasets(self, parameters: Parameters, _: DocumentArray) -> list[dict[str, Any]]:
        """Describe all datasets, or the one called `name`."""
        name = parameters.text("name", "")
        return [vars(dataset) for dataset in ([self._datasets.find(name)] if name else self._datasets.all())]

    @control(wire.DATASETS_DELETE, "name")
    def delete_dataset(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Delete a dataset that no unfinished run reads."""
        dataset = self._datasets.find(parameters.text("name"))
        for run in self._store.with_status(CREATED, STARTED):
            if dataset.version in run.data.values():
                raise InvalidInput(
                    f"dataset must not be in use. Got {dataset.name!r}, which run {run.name!r} reads. Cancel it first."
                )
        return vars(self._datasets.delete(dataset.name))

    @control(wire.ARTIFACTS_LIST)
    def list_artifacts(self, parameters: Parameters, _: DocumentArray) -> list[dict[str, Any]]:
        """Describe all published artifacts, oldest first, each with the aliases that point to it."""
        return described(self.shared_workspace)

    def problems(self) -> list[str]:
        """Return the problems of the workspace, and those of runs and artifacts."""
        return [
            *super().problems(),
            *self._store.problems(),
            *self._supervisor.problems(),
            *manifests_of(self.shared_workspace)[1],
        ]

    @control(wire.ARTIFACTS_PULL, "artifact", "file", "export", "offset")
    def pull_artifact(self, parameters: Parameters, _: DocumentArray) -> DocumentArray | dict[str, Any]:
        """Return the manifest, or at most 1 MiB of `file`, or of an `export`, from `offset` on, as a blob."""
        artifact_id = self._published(parameters)
        folder = self.shared_workspace.artifacts / artifact_id
        name, offset = parameters.text("file", ""), parameters.whole("offset", 0, 0, 2**53)
        if to := parameters.text("export", ""):
            return DocumentArray([Document(blob=self._exports.piece(artifact_id, to, offset, wire.PIECE_BYTES))])
        if not name:
            return {"manifest": (folder / MANIFEST).read_text()}
        if name not in read_manifest(folder).files:
            raise ArtifactNotFound(f"file must be listed in the manifest of {artifact_id}. Got {name!r}.")
        with open(folder / name, "rb") as file:
            file.seek(offset)
            return DocumentArray([Document(blob=file.read(wire.PIECE_BYTES))])

    @control(wire.ARTIFACTS_EXPORT, "artifact", "to", beside=True)
    def export_artifact(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Write an artifact as another library loads it; `/artifacts/pull` with `export` returns it."""
        artifact_id = self._published(parameters)
        return self._exports.make(read_manifest(self.shared_workspace.artifacts / artifact_id), parameters.text("to"))

    @control(wire.ALIASES_LIST)
    def list_aliases(self, _: Parameters, __: DocumentArray) -> list[dict[str, Any]]:
        """Describe every alias, with what it meant before, the last first."""
        return self._aliases.described()

    @control(wire.ARTIFACTS_PUSH, "upload", "offset", "commit", "abort", wire.OWNER, beside=True)
    def push_artifact(self, parameters: Parameters, docs: DocumentArray) -> dict[str, Any]:
        """Take an artifact's zip in parts.

        A document: its blob is the part from byte `offset` on. `commit` = bytes of the whole: check the zip, publish
        it and return its manifest. `abort`: remove the upload.
        """
        upload = parameters.text("upload")
        if parameters.flag("abort", False):
            self._uploads.forget(upload)
            return {"upload": upload}
        if parameters.get("commit") is not None:
            return vars(self._uploads.commit(upload, parameters.whole("commit", 0, 0, 2**53)))
        content = docs[0].blob if len(docs) else b""
        if len(docs):
            docs[0].pop("blob")  # a document refers to itself, so the blob would stay until garbage collection
        offset, owner = parameters.whole("offset", 0, 0, 2**53), parameters.text(wire.OWNER, "")
        return {"upload": upload, "size": self._uploads.add(upload, offset, content, owner)}

    @control(wire.ARTIFACTS_PROMOTE, "artifact", "alias", "force", "tolerance")
    def promote(self, parameters: Parameters, _: DocumentArray) -> dict[str, Any]:
        """Point an alias, `live` by default, to an artifact or back to a backbone.

        An artifact that became worse by tuning needs `force`; see `promotion`. What it meant before is kept.
        """
        given = parameters.number("tolerance", 0, 1)
        tolerance = wire.PROMOTE_TOLERANCE if given is None else given
        force, alias = parameters.flag("force", False), parameters.text("alias", LIVE)
        return self._aliases.promote(parameters.text("artifact"), alias, force, tolerance)

    def _published(self, parameters: Parameters) -> str:
        artifact_id = self._models.resolve(parameters.text("artifact"))
        if not ARTIFACT_ID.fullmatch(artifact_id):
            raise ArtifactNotFound(f"artifact must be published by a run. Got {artifact_id!r}, a backbone.")
        return artifact_id

    def _delete(self, run: RunRecord) -> None:
        self._store.delete(run.artifact_id)
        self._list.forget(run.artifact_id)
        if self._folder(run).path.is_dir():
            remove(self._folder(run).path)

    def _run(self, parameters: Parameters) -> RunRecord:
        return self._store.get(parameters.text("name"), parameters.text("experiment", "default"))

    def _folder(self, run: RunRecord) -> RunFolder:
        return self._supervisor.folder(run)

    def _described(self, run: RunRecord) -> dict[str, Any]:
        return self._list.described([run])[0]
