"""The process of one run: `python -m finetuner.executors.trainer.worker RUN_FOLDER`, started alone or by torchrun.

Alone and on the CPU it is forked from the Flow's prepared process, which saves ten seconds of imports.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from finetuner.contract.wire import FAILED, FINISHED
from finetuner.exceptions import FinetunerError
from finetuner.models.lean_open_clip import import_lean

from .lifeline import ending_without_trainer
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
    rank = int(os.environ.get("RANK", 0))
    log.setLevel(logging.ERROR if rank else logging.DEBUG)
    folder, interrupt = RunFolder(Path(path)), Interrupt()
    try:
        request = RunRequest.read(folder)
        pid = os.getppid() if "RANK" in os.environ else os.getpid()
        if not rank:  # a trainer that was killed right after the start could not write this
            WorkerProcess(pid, request.devices).write(folder)
        if __name__ == "__main__":  # no other module is imported at this moment
            import_lean()
        from .execution import execute  # imports torch, which takes seconds; the trainer looks for the process sooner

        with interrupt.listening(), nullcontext() if rank else ending_without_trainer(Path(request.workspace), pid):
            details = execute(request, folder, interrupt)
    except SystemExit:  # the sender of SIGTERM decides the state of the run
        return EXIT_CODE
    except FinetunerError as error:
        log.error("%s", error)
        Outcome(FAILED, str(error)).write(folder)
        return 1
    except BaseException as error:
        if interrupt.asked:  # another process of the run ended before this one
            return EXIT_CODE
        log.exception("The run failed")
        Outcome(FAILED, f"{type(error).__name__}: {error}").write(folder)
        return 1
    if not rank:
        Outcome(FINISHED, details).write(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
