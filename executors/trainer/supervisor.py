"""Starts each run in its own process, in the order of asking, and knows it again after a restart.

The worker lives in its own session, so that killing the executor does not kill the run. The supervisor
only looks: at the worker's process, and at `outcome.json`. An orderly close stops the worker and puts its
run back into the queue; so does the next supervisor where both were killed. The run goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import IO, Any

import psutil

from finetuner.contract.wire import AWAITS, CANCELED, CREATED, ENDED, FAILED, FINISHED, STARTED
from finetuner.exceptions import InvalidInput
from finetuner.workspace.folder import Workspace

from .run_folder import RunFolder
from .run_store import RunRecord, RunStore

POLL_SECONDS = 0.3
RETRY_SECONDS = 5.0
STOP_SECONDS = 10.0
CHECKPOINT_SECONDS = 60.0  # for the step that is under way and the checkpoint after it, gigabytes for a large model
ATTEMPTS = 3
WORKER = "executors.trainer.worker"

log = logging.getLogger("finetuner")


class Supervisor:
    """The queue of one workspace.

    Args:
        workspace: whose runs are carried out; only one supervisor at a time can have it.
        store: the runs.
        settings: of the workers, see `Trainer`.

    Raises:
        InvalidInput: another trainer works in this workspace.
    """

    def __init__(self, workspace: Workspace, store: RunStore, settings: Mapping[str, float]) -> None:
        self._workspace = workspace
        self._store = store
        self._settings = {"workspace": str(workspace.root), **settings}
        self._lock_file = _lock(workspace)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._requeue_lost()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def cancel(self, run: RunRecord) -> None:
        """End a run that has not ended; its folder stays."""
        with self._lock:
            if self._store.move(run.artifact_id, CANCELED, "Canceled before it started", only_from=(CREATED,)):
                return
            if self._store.move(run.artifact_id, CANCELED, "Canceled", only_from=(STARTED,)):
                _stop(_worker_of(self.folder(run)))

    def resume(self, run: RunRecord) -> None:
        """Put a run that failed or was canceled back into the queue; it goes on from its checkpoint.

        Raises:
            InvalidInput: a run that has not ended, or has finished.
        """
        with self._lock:
            self.folder(run).forget("outcome", "process", "attempts")
            if not self._store.move(run.artifact_id, CREATED, f"{AWAITS} again", only_from=(FAILED, CANCELED)):
                raise InvalidInput(
                    f"run must have failed or been canceled. Got {run.name!r}, which is {run.status}. "
                    f"Start a new one with model_artifact={run.artifact_id!r}."
                )

    def close(self) -> None:
        """Stop; a run that is under way goes on with the next supervisor."""
        self._closing.set()
        self._thread.join()
        with self._lock:
            for run in self._store.with_status(STARTED):
                _stop(_worker_of(self.folder(run)), CHECKPOINT_SECONDS)
                if not self._ended(run) and not self._published(run):
                    self.folder(run).forget("attempts")
                    self._requeue(run)
        self._lock_file.close()

    def folder(self, run: RunRecord) -> RunFolder:
        """Return the run's folder."""
        return RunFolder(self._workspace.run(run.artifact_id))

    def _requeue_lost(self) -> None:
        """Put runs back whose worker was killed together with the last supervisor."""
        for run in self._store.with_status(STARTED):
            if _worker_of(self.folder(run)) is None and not self._ended(run) and not self._published(run):
                attempts = (self.folder(run).read("attempts") or {"count": 0})["count"] + 1
                if attempts < ATTEMPTS:  # a run that takes the machine down with it must not do so for ever
                    self.folder(run).write("attempts", {"count": attempts})
                    self._requeue(run)

    def _requeue(self, run: RunRecord) -> None:
        self.folder(run).forget("process")
        self._store.move(run.artifact_id, CREATED, f"{AWAITS} again", only_from=(STARTED,))

    def _watch(self) -> None:
        while not self._closing.wait(POLL_SECONDS):
            try:
                with self._lock:
                    self._look()
            except Exception:  # a full disk, a locked database: the queue must go on when that is over
                log.exception("The supervisor failed and tries again in %g s", RETRY_SECONDS)
                self._closing.wait(RETRY_SECONDS)

    def _look(self) -> None:
        if self._child is not None:
            self._child.poll()  # reaps it
        for run in self._store.with_status(STARTED):
            self._look_after(run)
        if not self._store.with_status(STARTED):
            for run in self._store.with_status(CREATED)[:1]:
                self._start(run)

    def _look_after(self, run: RunRecord) -> None:
        if self._ended(run):
            return
        if _worker_of(self.folder(run)) is None and not self._ended(run) and not self._published(run):
            details = "The training process ended without a result: killed, or out of memory. See the log. "
            details += "Run.resume() goes on from the last checkpoint."
            with open(self.folder(run).log, "a") as lines:
                lines.write(f"{time.strftime('[%H:%M:%S]')} ERROR    {details}\n")
            self._store.move(run.artifact_id, FAILED, details, only_from=(STARTED,))

    def _ended(self, run: RunRecord) -> bool:
        outcome = self.folder(run).read("outcome")
        if outcome is None or outcome["status"] not in ENDED:
            return False
        _stop(_worker_of(self.folder(run)))  # only its exit is left to do; the next run gets all of the memory
        self._store.move(run.artifact_id, outcome["status"], outcome["details"], only_from=(STARTED,))
        return True

    def _published(self, run: RunRecord) -> bool:
        if not (self._workspace.artifacts / run.artifact_id).is_dir():
            return False
        # the worker was killed between publishing and saying so
        self._store.move(run.artifact_id, FINISHED, "Training finished", only_from=(STARTED,))
        return True

    def _start(self, run: RunRecord) -> None:
        folder = self.folder(run)
        folder.path.mkdir(parents=True, exist_ok=True)
        if folder.checkpoint.exists():
            folder.forget("outcome", "process")
        else:
            folder.start_over()
        folder.write("request", asdict(run) | self._settings)
        # STARTED comes first: should we die between the two, the next supervisor finds no worker and says so
        self._store.move(run.artifact_id, STARTED, "Training", only_from=(CREATED,))
        with open(folder.log, "ab") as lines:
            self._child = subprocess.Popen(
                [sys.executable, *_launcher(run), "-m", WORKER, str(folder.path)],
                stdin=subprocess.DEVNULL,
                stdout=lines,
                stderr=lines,
                start_new_session=True,
            )
        folder.write("process", {"pid": self._child.pid})


def _launcher(run: RunRecord) -> list[str]:
    """Return what starts several processes and ends them together; nothing where there is one."""
    count = run.config["training_options"].get("num_processes", 1)
    return ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)] if count > 1 else []


def _worker_of(folder: RunFolder) -> psutil.Process | None:
    """Return the run's living worker; a pid that now belongs to another process is not it."""
    known = folder.read("process")
    if known is None:
        return None
    try:
        process = psutil.Process(known["pid"])
        # Known by its command line, since a start time shifts whenever the clock is set. A zombie has none.
        return process if process.cmdline()[-2:] == [WORKER, str(folder.path)] else None
    except psutil.Error:
        return None


def _stop(worker: psutil.Process | None, seconds: float = STOP_SECONDS) -> None:
    """End a worker and all that it has started, such as the processes that share its run; kill it after `seconds`."""
    if worker is None:
        return
    family = [worker]
    with contextlib.suppress(psutil.NoSuchProcess):
        family += worker.children(recursive=True)
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(process)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if all(map(_is_gone, family)):
                return
            time.sleep(0.02)


def _is_gone(worker: psutil.Process) -> bool:
    try:
        return bool(worker.status() == psutil.STATUS_ZOMBIE)  # for ever, where a container's first process reaps none
    except psutil.NoSuchProcess:
        return True


def _lock(workspace: Workspace) -> IO[Any]:
    file = open(workspace.root / "trainer.lock", "w")  # noqa: SIM115  # held until close
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise InvalidInput(
            f"workspace must have one trainer. Got {workspace.root}, in which another one works. "
            f"Stop it, or choose another workspace."
        ) from error
    return file
