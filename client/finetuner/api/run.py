"""A run on a Flow: its status, log, metrics, examples and artifact."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from ..contract import wire
from ..contract.checks import whole
from ..exceptions import RunFailedError, RunInProgressError, RunPreparingError
from ..progress import bar
from ..transport.connection import Connection
from . import examples
from .library import fetched_artifact, save_zip

STEP = re.compile(r"step (\d+)/(\d+) ")


class Run:
    """One run of the Flow.

    Args:
        connection: connection to the Flow.
        description: the Flow's description of the run: name, experiment, config, artifact_id, created_at.
    """

    def __init__(self, connection: Connection, description: dict[str, Any]) -> None:
        self._connection = connection
        self._description = description

    def __repr__(self) -> str:
        return f"Run({self.name!r}, experiment={self.experiment_name!r}, artifact_id={self.artifact_id!r})"

    @property
    def name(self) -> str:
        """Name of the run, unique in its experiment."""
        return str(self._description["name"])

    @property
    def experiment_name(self) -> str:
        """Name of the experiment that the run belongs to."""
        return str(self._description["experiment"])

    @property
    def config(self) -> dict[str, Any]:
        """The fields of the run's `RunConfig`."""
        return dict(self._description["config"])

    @property
    def resolved(self) -> dict[str, Any]:
        """The training options in force, with the defaults filled in that `config` has as None.

        loss, loss_options, optimizer, optimizer_options, learning_rate (the peak), scheduler, scheduler_options,
        epochs, steps (of the whole run), batch_size, micro_batch_size, precision, seed, device and num_processes. Empty
        until training begins.
        """
        if not self._description.get("resolved"):
            self._description = self._call(wire.RUNS_GET)
        return dict(self._description.get("resolved", {}))

    @property
    def artifact_id(self) -> str:
        """24 hexadecimal characters, allocated when the run is created. The artifact exists once the run finishes."""
        return str(self._description["artifact_id"])

    @property
    def created_at(self) -> float:
        """Time of creation, seconds since the epoch."""
        return float(self._description["created_at"])

    @property
    def last_status(self) -> str:
        """Status in the Flow's last description of the run, such as 'FINISHED'; `status` asks the Flow anew."""
        return str(self._description["status"])

    def _call(self, endpoint: str, **parameters: Any) -> Any:
        return self._connection.call(endpoint, name=self.name, experiment=self.experiment_name, **parameters)

    def status(self) -> dict[str, str]:
        """Return {'status': CREATED, STARTED, FINISHED, FAILED or CANCELED, 'details': one line}."""
        status: dict[str, str] = self._call(wire.RUNS_STATUS)
        return status

    def logs(self) -> str:
        """Return the log up to now.

        Raises:
            RunPreparingError: the run has not started.
        """
        if self.status()["status"] == wire.CREATED:
            raise RunPreparingError(
                f"run {self.name!r} must have started to have logs. It waits in the queue. Call stream_logs()."
            )
        text, offset = "", -1
        while offset < (page := self._call(wire.RUNS_LOGS, offset=max(offset, 0)))["offset"]:
            text, offset = text + page["text"], page["offset"]
        return text

    def stream_logs(self, interval: float = 5) -> Iterator[str]:
        """Wait until the run starts, then yield its log lines until it ends.

        Args:
            interval: seconds between two requests.
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
        """Wait until the run ends and show a progress bar.

        Args:
            interval: seconds between two requests.

        Returns:
            The final status.

        Raises:
            RunFailedError: the run failed or was canceled; the message has the reason.
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
        """Cancel the run; its log stays. A run that has ended stays unchanged."""
        self._call(wire.RUNS_CANCEL)

    def resume(self) -> None:
        """Resume a failed or canceled run from its last checkpoint; without a checkpoint it starts again.

        Raises:
            InvalidInput: the run has not ended, or has finished.
        """
        self._description = self._call(wire.RUNS_RESUME)

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return {'before': {name: value}, 'after': {...}}; empty if the run had no evaluation data.

        Raises:
            RunInProgressError, RunFailedError
        """
        answer = self._call(wire.RUNS_METRICS)
        self._require_finished(answer)
        scores: dict[str, dict[str, float]] = answer["scores"]
        return scores

    def loss_curve(self) -> list[dict[str, Any]]:
        """Return the steps of `history`, so far: step, epoch, loss, val_loss, pairs_per_second, ..."""
        return self.history()["steps"]

    def history(self, after: int = 0) -> dict[str, list[dict[str, Any]]]:
        """Return the curves of the run, so far: a few thousand points at most, however long the run is.

        Args:
            after: return only steps after this one, and evaluations from this step on.

        Returns:
            {'steps': [{'step', 'epoch', 'loss', 'learning_rate', 'pairs_per_second', 'data_wait' in [0, 1], 'memory' in
            bytes, 'val_loss' or None}], 'evaluations': [{'step', 'epoch', 'metrics': {name: value}}]}. Evaluations go
            from step 0, before training, to the last step.
        """
        answer = self._call(wire.RUNS_METRICS, after=whole("after", after, 0, 2**53))
        return {name: answer[name] for name in ("steps", "evaluations")}

    def display_metrics(self) -> None:
        """Print the metrics before and after fine-tuning as tables.

        Raises:
            RunInProgressError, RunFailedError
        """
        from rich.console import Console
        from rich.table import Column, Table

        console = Console()
        for stage, scores in self.metrics().items():
            table = Table(Column("Retrieval Metric", overflow="fold"), "Value")  # fold: long names stay whole
            for name, value in scores.items():
                table.add_row(name, str(value))
            console.print(f"Retrieval metrics {stage} fine-tuning:", soft_wrap=True)  # a title would wrap
            console.print(table)

    def evaluations(self) -> list[dict[str, Any]]:
        """Return the evaluations while training, so far: step, epoch, metrics {name: value}.

        They come from evaluation callbacks. Those of the last step also hold the scores of the published weights.
        """
        entries = [entry for entry in self.history()["evaluations"] if entry["step"] > 0]
        for entry in entries:
            entry["metrics"].pop("val_loss", None)
        return [entry for entry in entries if entry["metrics"]]

    def example_results(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Return example searches as {'before': {query: [match, ...]}, 'after': {...}}, best match first.

        A match is {'match': its text, or the label or id of its image, 'relevant': bool, 'image': a thumbnail as a data
        URI, '' for a text}. The result is empty unless an EvaluationCallback had gather_examples=True.

        Raises:
            RunInProgressError, RunFailedError
        """
        answer = self._call(wire.RUNS_EXAMPLES)
        self._require_finished(answer)
        results: dict[str, dict[str, list[dict[str, Any]]]] = answer["examples"]
        return results

    def display_examples(self, k: int = 5) -> None:
        """Show example searches before and after fine-tuning: images in a notebook, otherwise tables.

        Args:
            k: number of matches for each query, 1 to 1000.

        Raises:
            InvalidInput, RunInProgressError, RunFailedError
        """
        examples.display(self.example_results(), whole("k", k, 1, 1000))

    def save_artifact(self, directory: str | os.PathLike[str] = "artifacts/") -> str:
        """Fetch the artifact and write it as a zip.

        Args:
            directory: folder for the zip, created if missing.

        Returns:
            Path of `<directory>/<run name>.zip`.

        Raises:
            RunInProgressError, RunFailedError, CorruptedArtifact
        """
        self._require_finished(self.status())
        return save_zip(self._connection, self.artifact_id, directory, self.name)

    def export(self, to: str, directory: str | os.PathLike[str], push_to_hub: str | None = None) -> str:
        """Fetch the artifact and write it as a folder that another library loads, see `finetuner.export_artifact`.

        Args:
            to: 'open_clip' or 'transformers' for a CLIP, 'timm' for an image model, 'sentence-transformers' or 'onnx'
                for both.
            directory: the new folder; it must not exist.
            push_to_hub: 'OWNER/NAME' also sends the folder to the Hugging Face hub.

        Returns:
            Path of the folder.

        Raises:
            RunInProgressError, RunFailedError, InvalidInput, AlreadyExists, CorruptedArtifact, FinetunerError
        """
        from ..exports.export import export_artifact_to

        self._require_finished(self.status())
        opened = partial(fetched_artifact, self._connection, self.artifact_id)
        return export_artifact_to(opened, to, directory, push_to_hub)

    def _require_finished(self, status: dict[str, Any]) -> None:
        if status["status"] == wire.CREATED:
            raise RunPreparingError(f"run {self.name!r} must have finished. It waits in the queue. Call wait().")
        if status["status"] == wire.STARTED:
            raise RunInProgressError(f"run {self.name!r} must have finished. It is training. Call wait().")
        if status["status"] != wire.FINISHED:
            raise RunFailedError(f"run {self.name!r} ended as {status['status']}: {status['details']}")
