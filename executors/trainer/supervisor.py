"""Starts each run in a process of its own, one run per device, and finds the processes again after a restart.

A worker has its own session: a kill of the trainer does not reach it. The supervisor only reads the worker's process
and its `outcome.json`. An orderly close stops the workers and puts their runs back into the queue. The next supervisor
does the same for runs whose worker was killed together with the trainer. Such a run resumes from its checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import IO

import psutil

from finetuner.config.run_config import RunConfig
from finetuner.contract.wire import AWAITS, CANCELED, CREATED, ENDED, FAILED, FINISHED, STARTED
from finetuner.exceptions import DatabaseUnreachable, FinetunerError, InvalidInput
from finetuner.flow import prepared
from finetuner.flow.processes import command_of
from finetuner.workspace.folder import ASIDE, DAMAGE, Workspace

from .devices import VISIBLE, Assignment, Devices, environment
from .leases import RENEWALS, Leases
from .lifeline import hold_workspace
from .run_folder import RunFolder
from .run_messages import Attempts, Outcome, Paused, RunRequest, WorkerProcess, WorkerSettings
from .run_store import RunRecord, RunStore

POLL_SECONDS = 0.3
RETRY_SECONDS = 5.0
STOP_SECONDS = 10.0
CHECKPOINT_SECONDS = 60.0  # for the current step and the checkpoint after it, gigabytes for a large model
ATTEMPTS = 3
WORKER = "finetuner.executors.trainer.worker"

log = logging.getLogger("finetuner")


class Supervisor:
    """The queues of one workspace.

    Args:
        workspace: of the runs. It can have only one supervisor at a time, unless the database is a server: then it can
            have one for each name of a trainer.
        store: the runs.
        devices: each takes one run at a time.
        settings: of every worker.
        leases: the runs that this supervisor holds.

    Raises:
        InvalidInput: another trainer uses this workspace, or this name.
    """

    def __init__(
        self, workspace: Workspace, store: RunStore, devices: Devices, settings: WorkerSettings, leases: Leases
    ) -> None:
        self._workspace = workspace
        self._leases = leases
        self._held: dict[str, RunRecord] = {}
        self._renewed = float("-inf")
        self._store = store
        self._devices = devices
        self._settings = settings
        self._lock_file = hold_workspace(workspace.root, "" if store.database.embedded else leases.owner)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._children: list[subprocess.Popen[bytes]] = []
        self._problems: dict[str, str] = {}
        self._requeue_lost()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def cancel(self, run: RunRecord) -> None:
        """End a run that has not ended; its folder stays."""
        with self._lock:
            if self._store.move(run.artifact_id, CANCELED, "Canceled before it started", only_from=(CREATED,)):
                return
            if self._store.move(run.artifact_id, CANCELED, "Canceled", only_from=(STARTED,)):
                self._let_go(run)  # another trainer's run ends when that one sees it

    def resume(self, run: RunRecord) -> None:
        """Put a failed or canceled run back into the queue; it resumes from its checkpoint.

        Raises:
            InvalidInput: the run has not ended, or has finished.
        """
        with self._lock:
            ended = (FAILED, CANCELED)
            if self._store.get(run.name, run.experiment).status in ended:  # first, as the next start writes them anew
                self.folder(run).forget(Outcome.NAME, WorkerProcess.NAME, Attempts.NAME, Paused.NAME)
            if not self._store.move(run.artifact_id, CREATED, f"{AWAITS} again", only_from=ended):
                raise InvalidInput(
                    f"run must have failed or been canceled. Got {run.name!r}, which is {run.status}. "
                    f"Start a new one with model_artifact={run.artifact_id!r}."
                )

    def close(self) -> None:
        """Stop all workers; the next supervisor resumes their runs."""
        self._closing.set()
        self._thread.join()
        with self._lock:
            running = [run for run in self._leases.mine() if run.status == STARTED]
            _stop([worker for run in running for worker in self._workers_of(run)], CHECKPOINT_SECONDS)
            self._each(running, self._put_back)
        self._lock_file.close()

    def _put_back(self, run: RunRecord) -> None:
        if not self._ended(run) and not self._published(run):
            self.folder(run).forget(Attempts.NAME)
            self._requeue(run)

    def problems(self) -> list[str]:
        """Return one sentence for each run that cannot go on, and for each damaged file of a run."""
        return [*self._problems.values()] + [
            f"runs/{file.parent.name}/{file.name} was damaged and is set aside. Remove it once you have read it."
            for file in sorted((self._workspace.root / "runs").glob(f"*/*{ASIDE}"))
        ]

    def _each(self, runs: Iterable[RunRecord], act: Callable[[RunRecord], object]) -> None:
        """Do something with each run. The fault of one run does not stop the others; the next round tries it again."""
        for run in runs:
            try:
                act(run)
                self._problems.pop(run.artifact_id, None)
            except Exception as error:
                problem = f"run {run.name!r} waits: {error!r}"
                if self._problems.get(run.artifact_id) != problem:
                    log.exception("The supervisor tries run %r again", run.name)
                self._problems[run.artifact_id] = problem

    def folder(self, run: RunRecord) -> RunFolder:
        """Return the run's folder."""
        return RunFolder(self._workspace.run(run.artifact_id))

    def _requeue_lost(self) -> None:
        """Put runs back into the queue whose worker was killed together with the last supervisor."""
        self._each(self._started(), self._requeue_if_lost)

    def _requeue_if_lost(self, run: RunRecord) -> None:
        if not self._workers_of(run) and not self._ended(run) and not self._published(run):
            paused = Paused.read(self.folder(run)) is not None
            before = Attempts.read(self.folder(run)) or Attempts(0)
            attempts = Attempts(before.count + (not paused))
            if attempts.count < ATTEMPTS:  # a run that takes the machine down with it must not do so for ever
                attempts.write(self.folder(run))
                self._requeue(run)

    def _requeue_taken(self, run: RunRecord) -> None:
        """Put a run back into the queue whose trainer is gone. Its worker knows by now that the lease has ended."""
        _kill(self._workers_of(run, everywhere=True))  # of another trainer on this machine
        self._requeue_if_lost(run)

    def _requeue(self, run: RunRecord) -> None:
        self.folder(run).forget(WorkerProcess.NAME, Paused.NAME)
        self._move(run, CREATED, f"{AWAITS} again")

    def _watch(self) -> None:
        while not self._closing.wait(POLL_SECONDS):
            try:
                with self._lock:
                    self._look()
            except DatabaseUnreachable as error:  # workers go on; their leases end if this takes long
                log.warning("The supervisor waits for its database: %s", error)
                self._closing.wait(RETRY_SECONDS)
            except Exception:  # a full disk, a locked database: the queue must resume when that is over
                log.exception("The supervisor failed and tries again in %g s", RETRY_SECONDS)
                self._closing.wait(RETRY_SECONDS)

    def _look(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]  # poll reaps those that ended
        if time.monotonic() - self._renewed > self._leases.seconds / RENEWALS:
            self._leases.renew()
            self._renewed = time.monotonic()
            self._each(self._leases.take_over(), self._requeue_taken)
        self._each(self._started(), self._check)
        notes = [WorkerProcess.read(self.folder(run)) for run in self._started()]
        occupied = [device for note in notes if note is not None for device in note.devices]
        starting = self._devices.assign(self._store.with_status(CREATED), occupied)
        devices = {assignment.run.artifact_id: assignment for assignment in starting}
        self._each([each.run for each in starting], lambda run: self._start(devices[run.artifact_id]))

    def _started(self) -> list[RunRecord]:
        """Return this trainer's runs that train. Stop workers of runs that were canceled or taken over elsewhere."""
        held = {run.artifact_id: run for run in self._leases.mine()}
        lost = [run for artifact_id, run in self._held.items() if artifact_id not in held]
        self._held = held
        _kill(
            [worker for run in lost for worker in self._workers_of(run, everywhere=True)]
        )  # no checkpoint: another trainer writes it
        self._each([run for run in held.values() if run.status != STARTED], self._let_go)
        return [run for run in held.values() if run.status == STARTED]

    def _let_go(self, run: RunRecord) -> None:
        """Stop the workers of a run that has ended, then its lease."""
        _stop(self._workers_of(run))
        self._leases.release(run.artifact_id)
        self._held.pop(run.artifact_id, None)

    def _move(self, run: RunRecord, status: str, details: str) -> None:
        """Put a run of this trainer into another state, unless another trainer has taken it over."""
        if self._leases.move(run.artifact_id, status, details):
            self._held.pop(run.artifact_id, None)

    def _check(self, run: RunRecord) -> None:
        """Record the end of a run whose worker is done or dead."""
        if self._ended(run):
            return
        if not self._workers_of(run) and not self._ended(run) and not self._published(run):
            if Paused.read(self.folder(run)) is not None:
                self._requeue(run)
                return
            details = "The training process ended without a result: killed, or out of memory. See the log. "
            details += "Run.resume() continues from the last checkpoint."
            with open(self.folder(run).log, "a") as lines:
                lines.write(f"{time.strftime('[%H:%M:%S]')} ERROR    {details}\n")
            self._move(run, FAILED, details)

    def _ended(self, run: RunRecord) -> bool:
        outcome = Outcome.read(self.folder(run))
        if outcome is None or outcome.status not in ENDED:
            return False
        _stop(self._workers_of(run))  # it has nothing left to do but exit; the next run gets all of the memory
        self._move(run, outcome.status, outcome.details)
        return True

    def _published(self, run: RunRecord) -> bool:
        if not (self._workspace.artifacts / run.artifact_id).is_dir():
            return False
        # the worker was killed between publishing and writing its outcome
        self._move(run, FINISHED, "Training finished")
        return True

    def _start(self, assignment: Assignment) -> None:
        run, folder = assignment.run, self.folder(assignment.run)
        try:
            config = RunConfig.from_dict(run.config)
            folder.path.mkdir(parents=True, exist_ok=True)
        except (FinetunerError, *DAMAGE, FileExistsError, NotADirectoryError) as error:
            # an earlier version recorded it, or the row or the folder is damaged
            self._store.move(run.artifact_id, FAILED, str(error), only_from=(CREATED,))
            return
        # STARTED comes first: if the trainer dies between the two, the next supervisor finds no worker and requeues.
        # Nothing in the folder is touched before, as another trainer may have taken the run.
        lease = self._leases.take(run.artifact_id)
        if lease is None:
            return
        if folder.checkpoint.exists():
            folder.forget(Outcome.NAME, WorkerProcess.NAME, Paused.NAME)
        else:
            folder.start_over()
        root, devices = str(self._workspace.root), assignment.devices
        number = 0 if self._store.database.embedded else lease
        RunRequest(run.artifact_id, config, run.data, root, devices, self._settings, number).write(folder)
        with open(folder.log, "ab") as lines:
            pid = self._start_process(run, folder, os.environ | environment(devices), lines)
        WorkerProcess(pid, devices).write(folder)

    def _start_process(self, run: RunRecord, folder: RunFolder, variables: dict[str, str], lines: IO[bytes]) -> int:
        if run.num_processes == 1 and not variables[VISIBLE]:  # no GPU: no test has shown that CUDA survives the fork
            pid = prepared.start(WORKER, [str(folder.path)], lines, variables)
            if pid is not None:
                return pid
        child = subprocess.Popen(
            [sys.executable, *_launcher(run), "-m", WORKER, str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=lines,
            env=variables,
            start_new_session=True,
        )
        self._children.append(child)
        with contextlib.suppress(psutil.Error):  # it ended already
            while not command_of(psutil.Process(child.pid)):  # the kernel shows it a moment after Popen has returned
                time.sleep(0.01)
        return child.pid

    def _workers_of(self, run: RunRecord, *, everywhere: bool = False) -> list[psutil.Process]:
        """Return the run's living worker, or nothing; a pid that now belongs to another process does not count.

        Args:
            run: of this trainer.
            everywhere: whether to look at all processes of this machine: the note may be another trainer's.
        """
        folder = self.folder(run)
        known = None if everywhere else WorkerProcess.read(folder)
        try:
            processes = [psutil.Process(known.pid)] if known is not None else list(psutil.process_iter())
        except psutil.Error:
            return []
        return [process for process in processes if _works_in(process, folder)]


def _works_in(process: psutil.Process, folder: RunFolder) -> bool:
    # The command line identifies a worker: a start time shifts whenever the clock is set. A zombie has none.
    try:
        return command_of(process).endswith(f" {WORKER} {folder.path}")
    except psutil.Error:
        return False


def _launcher(run: RunRecord) -> list[str]:
    """Return the command that starts several processes and ends them together; nothing for one process."""
    count = run.num_processes
    return ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)] if count > 1 else []


def _stop(workers: Sequence[psutil.Process], seconds: float = STOP_SECONDS) -> None:
    """End workers and all processes that they have started; kill those that live after `seconds`."""
    family = list(workers)
    for worker in workers:
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


def _kill(workers: Sequence[psutil.Process]) -> None:
    """End workers and all processes that they have started at once: they write nothing more."""
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (*worker.children(recursive=True), worker):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def _is_gone(worker: psutil.Process) -> bool:
    try:
        return bool(worker.status() == psutil.STATUS_ZOMBIE)  # for ever, where a container's first process reaps none
    except psutil.NoSuchProcess:
        return True
