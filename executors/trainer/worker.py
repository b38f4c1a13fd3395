"""The process of one run: `python -m finetuner.executors.trainer.worker RUN_FOLDER`, started alone or by torchrun.

Alone and on the CPU it is forked from the Flow's prepared process, which saves ten seconds of imports.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from finetuner.contract.environment import DATABASE
from finetuner.contract.wire import FAILED, FINISHED
from finetuner.exceptions import FinetunerError
from finetuner.models.lean_open_clip import import_lean

from .lifeline import HeldRun, ending_without_trainer
from .loop.interrupt import EXIT_CODE, Interrupt
from .run_folder import RunFolder
from .run_messages import Outcome, RunRequest, WorkerProcess

log = logging.getLogger("finetuner")


def main(path: str) -> int:
    """Run the request in a folder and write the outcome, unless a signal ends the process.

    Args:
        path: the folder of the run, with request.json.

    Returns:
        The exit code of the process: 0 if the run finished.
    """
    logging.basicConfig(stream=sys.stdout, format="[%(asctime)s] %(levelname)-8s %(message)s", datefmt="%H:%M:%S")
    with ExitStack() as stack:
        return _run(RunFolder(Path(path)), int(os.environ.get("RANK", 0)), stack)


def _run(folder: RunFolder, rank: int, stack: ExitStack) -> int:
    log.setLevel(logging.ERROR if rank else logging.DEBUG)
    interrupt = Interrupt()
    try:
        request = RunRequest.read(folder)
        pid = os.getppid() if "RANK" in os.environ else os.getpid()
        if not rank:  # a trainer that was killed right after the start could not write this
            WorkerProcess(pid, request.devices).write(folder)
        if __name__ == "__main__":  # no other module is imported at this moment
            import_lean()
        if request.lease and not rank:
            folder = stack.enter_context(_held(request, folder, pid))
        from .execution import execute  # imports torch, which takes seconds; the trainer looks for the process sooner

        alone = nullcontext() if rank or request.lease else ending_without_trainer(Path(request.workspace), pid)
        with interrupt.listening(), alone:
            details = execute(request, folder, interrupt)
    except SystemExit:  # the sender of SIGTERM decides the state of the run
        return EXIT_CODE
    except FinetunerError as error:
        log.error("%s", error)
        return _end(folder, FAILED, str(error))
    except BaseException as error:
        if interrupt.asked:  # another process of the run ended before this one
            return EXIT_CODE
        log.exception("The run failed")
        return _end(folder, FAILED, f"{type(error).__name__}: {error}")
    return 0 if rank else _end(folder, FINISHED, details)


def _end(folder: RunFolder, status: str, details: str) -> int:
    """Write the outcome, unless another trainer has taken the run over, and return the exit code."""
    try:
        Outcome(status, details).write(folder)
    except SystemExit:
        return EXIT_CODE
    return 0 if status == FINISHED else 1


@contextmanager
def _held(request: RunRequest, folder: RunFolder, pid: int) -> Iterator[RunFolder]:
    """Watch the run's lease during the block; give the folder as its holder may write it."""
    from finetuner.database.engine import Database
    from finetuner.database.url import database_url

    from .leases import Leases

    url = database_url()
    if url is None:
        raise FinetunerError(f"{DATABASE} must name the run's database. Got none. Start the trainer with it.")
    with closing(Database.server(url, 1)) as database:
        leases, seconds = Leases(database, ""), request.settings.lease_seconds
        held = HeldRun(partial(leases.look, request.artifact_id, request.lease), folder, pid, seconds)
        with held.watched():
            yield RunFolder(folder.path, held.require)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
