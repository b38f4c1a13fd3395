"""Hooks that log a run to experiment trackers, through Accelerate's trackers."""

from __future__ import annotations

import logging
import os
import re
import shlex
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from accelerate import PartialState
from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, WandBTracker

from finetuner.config.callbacks import Logger, MLflowLogger, TensorBoardLogger, WandBLogger
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import FinetunerError

from ..run_folder import RunFolder
from .evaluation import Scores
from .hook import Hook, Progress
from .tracker_checks import PACKAGES, wandb_mode

FINISH_SECONDS = 60.0
TRACKER_RUNS = "trackers"
# A folder needs no database, and each version opens it. Current ones do so only if they are told.
ALLOW_FOLDER = {"MLFLOW_ALLOW_FILE_STORE": "true"}
STEP_VALUES = ("loss", "learning_rate", "pairs_per_second")

log = logging.getLogger("finetuner")


def make_tracker(callback: Logger, config: RunConfig, scores: Scores, folder: RunFolder) -> Hook:
    """Return the hook of a logger that passed `check_loggers`."""
    return _KINDS[type(callback)](callback, config, scores, folder)


class Track(Hook, ABC):
    """A logger. It must come after the hooks that evaluate.

    An error of a tracker that has started becomes a warning, and the run continues without the tracker.

    Args:
        options: of the callback.
        config: of the run; logged to the tracker.
        scores: metrics of all evaluations so far.
        folder: of the run; contains the tracker's files.
    """

    def __init__(self, options: Logger, config: RunConfig, scores: Scores, folder: RunFolder) -> None:
        self._name = type(options).__name__
        self._args: Mapping[str, Any] = getattr(options, f"{PACKAGES[type(options)]}_args", None) or {}
        self._each_step = options.metrics_logger_step == "batch"
        self._log_zero_shot = options.log_zero_shot
        self._config = config
        self._scores = scores
        self._folder = folder
        self._tracker: GeneralTracker | None = None
        self._broken = False

    @abstractmethod
    def _start(self, run_id: str | None) -> tuple[GeneralTracker, str]:
        """Start the tracker; return it with its id of the run. It is offline unless the environment has an address.

        Args:
            run_id: to resume after a kill, None for a new one.
        """

    def _finish(self, tracker: GeneralTracker, *, failed: bool) -> None:
        tracker.finish()

    def before_training(self, progress: Progress) -> None:
        """Start the tracker and log the metrics of the pretrained model.

        Raises:
            FinetunerError: the tracker does not start.
        """
        PartialState(cpu=progress.model.device.type == "cpu")  # if a tracker created it, it would occupy the GPU
        known = self._folder.read(TRACKER_RUNS) or {}
        try:
            self._tracker, run_id = self._start(known.get(self._name) if progress.step else None)
        except Exception as error:
            raise FinetunerError(
                f"{self._name} must be able to start. Got {_described(error)}. Set up the trainer's environment, or "
                f"leave the callback out."
            ) from error
        self._folder.write(TRACKER_RUNS, known | {self._name: run_id})
        with self._errors_as_warning():
            self._tracker.store_init_configuration(_scalars(self._config.to_dict()))
        if self._log_zero_shot and not progress.step:
            self._log(self._scores.metrics.get("before", {}), 0)

    def after_step(self, progress: Progress) -> None:
        """Log the step and its evaluations."""
        if self._each_step:
            values = {name: progress.values[name] for name in STEP_VALUES if name in progress.values}
            self._log(values | self._scores.at(progress.step), progress.step)

    def after_epoch(self, progress: Progress) -> None:
        """Log the epoch's values. If each step is logged, those of its last step are not repeated."""
        known = STEP_VALUES if self._each_step else ()
        values = {name: value for name, value in progress.values.items() if name not in known}
        self._log(values, self._position(progress))

    def after_training(self, progress: Progress) -> None:
        """Log the metrics of the published weights, one position after the last."""
        self._log(self._scores.metrics.get("after", {}), self._position(progress) + 1)

    def close(self, *, failed: bool) -> None:
        """End the tracker's run."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            with self._errors_as_warning():
                self._finish(tracker, failed=failed)

    def _position(self, progress: Progress) -> int:
        return progress.step if self._each_step else progress.epoch

    def _log(self, values: Mapping[str, float], position: int) -> None:
        if values and self._tracker is not None and not self._broken:
            named = {re.sub(r"[^\w:-]", "_", name): value for name, value in values.items()}  # as MLflow allows
            with self._errors_as_warning():
                self._tracker.log(named, step=position)

    @contextmanager
    def _errors_as_warning(self) -> Iterator[None]:
        """Turn errors into one warning: a full disk or an unreachable server must not end a training."""
        try:
            yield
        except Exception as error:
            if not self._broken:
                log.warning("%s failed and logs nothing more: %s", self._name, _described(error))
            self._broken = True


class TrackInWandB(Track):
    """Weights & Biases, without capturing the log or describing the machine and its code."""

    def _start(self, run_id: str | None) -> tuple[GeneralTracker, str]:
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        os.environ.setdefault("WANDB_CACHE_DIR", str(self._folder.path / "wandb" / "cache"))
        import wandb

        args = {"name": self._config.run_name, **self._args, "mode": wandb_mode(self._args)}
        if run_id is not None and args["mode"] == "online":  # offline, another folder and another run continue it
            args |= {"id": run_id, "resume": "allow"}
        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
        )
        project = args.pop("project", self._config.experiment_name)
        tracker = WandBTracker(project, dir=str(self._folder.path), settings=settings, **args)
        tracker.start()
        run = tracker.tracker
        if args["mode"] == "offline":
            path = run.settings.sync_dir
            log.info("%s: offline, in %s. To upload it, on this machine: wandb sync %s", self._name, path, path)
        else:
            log.info("%s: %s", self._name, run.url or args["mode"])
        return tracker, run.id

    def _finish(self, tracker: GeneralTracker, *, failed: bool) -> None:
        import wandb

        # W&B retries for hours if its server is unreachable. The run has ended and must report its outcome.
        waits = threading.Thread(target=tracker.tracker.finish, args=(int(failed),), daemon=True)
        waits.start()
        waits.join(FINISH_SECONDS)
        if waits.is_alive():
            raise TimeoutError(f"the upload was not over after {FINISH_SECONDS} s")
        wandb.teardown()


class TrackInMLflow(Track):
    """MLflow, at the trainer's MLFLOW_TRACKING_URI, or in files without it."""

    def _start(self, run_id: str | None) -> tuple[GeneralTracker, str]:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        self._in_files = not os.environ.get("MLFLOW_TRACKING_URI")
        if self._in_files:
            path = self._folder.path / "mlruns"
            os.environ["MLFLOW_TRACKING_URI"] = path.as_uri()
            os.environ |= ALLOW_FOLDER
            log.info(
                "%s: in %s. To see it, on this machine, with the package mlflow and not mlflow-skinny alone: "
                "%s mlflow ui --backend-store-uri %s",
                self._name,
                path,
                "=".join(*ALLOW_FOLDER.items()),
                shlex.quote(str(path)),
            )
        else:
            log.info("%s: at the trainer's MLFLOW_TRACKING_URI", self._name)
        names = {"experiment_name": self._config.experiment_name, "run_name": self._config.run_name}
        tracker = MLflowTracker(run_id=run_id, **{**names, **self._args})
        tracker.start()
        return tracker, tracker.tracker.info.run_id

    def _finish(self, tracker: GeneralTracker, *, failed: bool) -> None:
        import mlflow

        try:
            mlflow.end_run("FAILED" if failed else "FINISHED")
        finally:
            if self._in_files:
                del os.environ["MLFLOW_TRACKING_URI"]


class TrackInTensorBoard(Track):
    """TensorBoard, in event files."""

    def _start(self, run_id: str | None) -> tuple[GeneralTracker, str]:
        tracker = TensorBoardTracker("tensorboard", self._folder.path)
        tracker.start()
        path = self._folder.path / "tensorboard"
        log.info("%s: in %s. To see it, on this machine: tensorboard --logdir %s", self._name, path, path)
        return tracker, tracker.run_name


_KINDS: dict[type[Logger], type[Track]] = {
    WandBLogger: TrackInWandB,
    MLflowLogger: TrackInMLflow,
    TensorBoardLogger: TrackInTensorBoard,
}


def _scalars(values: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Return the scalars of a configuration, flat: a nested value is named like 'optimizer_options.eps'."""
    flat: dict[str, str | int | float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": inner for key, inner in _scalars(value).items()}
        elif isinstance(value, str | int | float):
            flat[name] = value
    return flat


def _described(error: Exception) -> str:
    """Return an error in one line, without credentials in the address of a server."""
    line = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {re.sub('://[^/@ ]*@', '://***@', line)}"
