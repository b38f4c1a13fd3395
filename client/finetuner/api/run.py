"""A run on a Flow: its status, log, metrics and artifact."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..artifacts.archive import zip_artifact
from ..artifacts.manifest import MANIFEST, parse_manifest, read_manifest, verify_artifact
from ..contract import wire
from ..contract.checks import checked_name, whole
from ..exceptions import RunFailedError, RunInProgressError, RunPreparingError
from ..progress import bar
from ..transport.connection import Connection
from . import examples

STEP = re.compile(r"step (\d+)/(\d+) ")


class Run:
    """One run.

    Args:
        connection: to the Flow.
        description: what the Flow says of the run.
    """

    def __init__(self, connection: Connection, description: dict[str, Any]) -> None:
        self._connection = connection
        self._description = description

    def __repr__(self) -> str:
        return f"Run({self.name!r}, experiment={self.experiment_name!r}, artifact_id={self.artifact_id!r})"

    @property
    def name(self) -> str:
        """Unique in its experiment."""
        return str(self._description["name"])

    @property
    def experiment_name(self) -> str:
        """The experiment it belongs to."""
        return str(self._description["experiment"])

    @property
    def config(self) -> dict[str, Any]:
        """The fields of RunConfig."""
        return dict(self._description["config"])

    @property
    def artifact_id(self) -> str:
        """24 hex characters, allocated when the run was created; published when it finished."""
        return str(self._description["artifact_id"])

    @property
    def created_at(self) -> float:
        """Seconds since the epoch."""
        return float(self._description["created_at"])

    def _call(self, endpoint: str, **parameters: Any) -> Any:
        return self._connection.call(endpoint, name=self.name, experiment=self.experiment_name, **parameters)

    def status(self) -> dict[str, str]:
        """Return {'status': CREATED, STARTED, FINISHED, FAILED or CANCELED, 'details': one line}."""
        status: dict[str, str] = self._call(wire.RUNS_STATUS)
        return status

    def logs(self) -> str:
        """Return the whole log so far.

        Raises:
            RunPreparingError: the run has not started.
        """
        if self.status()["status"] == wire.CREATED:
            raise RunPreparingError(f"run {self.name!r} must have started to have logs. It waits in the queue.")
        text, offset = "", -1
        while offset < (page := self._call(wire.RUNS_LOGS, offset=max(offset, 0)))["offset"]:
            text, offset = text + page["text"], page["offset"]
        return text

    def stream_logs(self, interval: float = 5) -> Iterator[str]:
        """Wait until the run starts, then yield log lines until it ends.

        Args:
            interval: seconds between two looks.
        """
        offset = 0
        while True:
            page = self._call(wire.RUNS_LOGS, offset=offset)
            yield from page["text"].splitlines()
            if page["offset"] == offset:
                if page["status"] in wire.ENDED:
                    return
                time.sleep(interval)
            offset = page["offset"]

    def wait(self, interval: float = 0.5) -> dict[str, str]:
        """Show training's progress until the run ends.

        Args:
            interval: seconds between two looks.

        Returns:
            The final status.

        Raises:
            RunFailedError: it failed or was canceled; the message has the reason.
        """
        with bar(f"Training {self.name}", 100) as advance:
            shown = 0
            for line in self.stream_logs(interval):
                if (found := STEP.search(line)) is not None:
                    percent = 100 * int(found[1]) // int(found[2])
                    advance(percent - shown)
                    shown = percent
        status = self.status()
        self._require_finished(status)
        return status

    def cancel(self) -> None:
        """End the run; its log stays."""
        self._call(wire.RUNS_CANCEL)

    def resume(self) -> None:
        """Let a run that failed or was canceled go on from its last checkpoint, or from the start without one.

        Raises:
            InvalidInput: a run that has not ended, or has finished.
        """
        self._description = self._call(wire.RUNS_RESUME)

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return {'before': {name: value}, 'after': {...}}; empty where the run had nothing to evaluate on.

        Raises:
            RunInProgressError, RunFailedError
        """
        answer = self._call(wire.RUNS_METRICS)
        self._require_finished(answer)
        scores: dict[str, dict[str, float]] = answer["scores"]
        return scores

    def loss_curve(self) -> list[dict[str, Any]]:
        """Return what was reported while training, so far: step, epoch, loss, val_loss, pairs_per_second, ..."""
        return [json.loads(line) for line in self._call(wire.RUNS_METRICS)["steps"].splitlines()]

    def history(self, after: int = 0) -> dict[str, list[dict[str, Any]]]:
        """Return what charts show, so far and in at most some thousand points; `loss_curve` has more of fewer steps.

        Args:
            after: steps behind this one, and evaluations from it on, to ask for the rest.

        Returns:
            {'steps': [{'step', 'epoch', 'loss', 'learning_rate', 'pairs_per_s'}],
            'evaluations': [{'step', 'epoch', 'metrics': {name: value}}]}, from step 0, before training, to the last
        """
        found: dict[str, list[dict[str, Any]]] = self._call(wire.RUNS_HISTORY, after=whole("after", after, 0, 2**53))
        return found

    def display_metrics(self) -> None:
        """Print the metrics before and after as tables.

        Raises:
            RunInProgressError, RunFailedError
        """
        from rich.console import Console
        from rich.table import Column, Table

        console = Console()
        for stage, scores in self.metrics().items():
            table = Table(Column("Retrieval Metric", overflow="fold"), "Value")  # long names are not cut
            for name, value in scores.items():
                table.add_row(name, str(value))
            console.print(f"Retrieval metrics {stage} fine-tuning:", soft_wrap=True)  # a title would wrap
            console.print(table)

    def evaluations(self) -> list[dict[str, Any]]:
        """Return what evaluation callbacks reported while training, so far: step, epoch, metrics {name: value}."""
        return [json.loads(line) for line in self._call(wire.RUNS_METRICS)["evaluations"].splitlines()]

    def example_results(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Return what queries found, {'before': {query: [match, ...]}, 'after': {...}}, best match first.

        A match is {'match': its text, or its image's label or id, 'relevant': bool, 'image': a thumbnail as data
        URI, '' for a text}. Empty unless an EvaluationCallback had gather_examples=True.

        Raises:
            RunInProgressError, RunFailedError
        """
        answer = self._call(wire.RUNS_EXAMPLES)
        self._require_finished(answer)
        results: dict[str, dict[str, list[dict[str, Any]]]] = answer["examples"]
        return results

    def display_examples(self, k: int = 5) -> None:
        """Show what queries found before and after: images in a notebook, else tables.

        Args:
            k: matches a query, at least 1.

        Raises:
            InvalidInput, RunInProgressError, RunFailedError
        """
        examples.display(self.example_results(), whole("k", k, 1, 1000))

    def save_artifact(self, directory: str = "artifacts/") -> str:
        """Fetch the artifact and write it as a zip.

        Args:
            directory: made where it is not there.

        Returns:
            Path of `<directory>/<run name>.zip`.

        Raises:
            RunInProgressError, RunFailedError, CorruptedArtifact
        """
        self._require_finished(self.status())
        return save_zip(self._connection, self.artifact_id, directory, self.name)

    def _require_finished(self, status: dict[str, Any]) -> None:
        if status["status"] == wire.CREATED:
            raise RunPreparingError(f"run {self.name!r} must have finished. It waits in the queue. Call wait().")
        if status["status"] == wire.STARTED:
            raise RunInProgressError(f"run {self.name!r} must have finished. It is training. Call wait().")
        if status["status"] != wire.FINISHED:
            raise RunFailedError(f"run {self.name!r} ended as {status['status']}: {status['details']}")


def save_zip(connection: Connection, reference: str, directory: str, name: str = "") -> str:
    """Fetch a published artifact and write it as a zip.

    Args:
        connection: to the Flow.
        reference: an artifact id or alias.
        directory: made where it is not there.
        name: of the zip and of the folder in it; '' for that of the artifact's run.

    Returns:
        Path of `<directory>/<name>.zip`.

    Raises:
        ArtifactNotFound, CorruptedArtifact
    """
    parent = Path(directory)
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=".artifact-"))
    try:
        fetch_artifact(connection, reference, folder)
        name = name or checked_name(read_manifest(folder).run_name, "artifact's run name")
        return str(zip_artifact(folder, parent / f"{name}.zip", name))
    finally:
        shutil.rmtree(folder)


def fetch_artifact(connection: Connection, reference: str, folder: Path) -> None:
    """Fetch a published artifact into an empty folder, and verify it.

    Args:
        connection: to the Flow.
        reference: an artifact id or alias.
        folder: gets the files.

    Raises:
        ArtifactNotFound, CorruptedArtifact
    """
    content = connection.call(wire.ARTIFACTS_PULL, artifact=reference)["manifest"]
    manifest = parse_manifest(content, connection.host)
    (folder / MANIFEST).write_text(content)
    with bar(f"Fetching {manifest.artifact_id}", sum(entry["size"] for entry in manifest.files.values())) as advance:
        for name, entry in manifest.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / name, "wb") as file:
                while file.tell() < entry["size"]:
                    parameters = {"artifact": manifest.artifact_id, "file": name, "offset": file.tell()}
                    answer = connection.post(wire.ARTIFACTS_PULL, parameters=parameters)[0]
                    if (error := wire.error_of(answer)) is not None:
                        raise error
                    if not answer.blob:
                        break  # shorter than promised: verify says which file
                    advance(file.write(answer.blob))
    verify_artifact(folder)
