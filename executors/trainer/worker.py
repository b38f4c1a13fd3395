"""The process of one run: `python -m executors.trainer.worker RUN_FOLDER`; or one of several, under torchrun."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from finetuner.contract.wire import FAILED, FINISHED
from finetuner.exceptions import FinetunerError

from .loop.interrupt import EXIT_CODE, Interrupt
from .run_folder import RunFolder

log = logging.getLogger("finetuner")


def main(path: str) -> int:
    """Carry out the run and write its outcome, whatever happens short of a signal.

    Returns:
        The process's exit code: 0 where the run finished.
    """
    logging.basicConfig(stream=sys.stdout, format="[%(asctime)s] %(levelname)-8s %(message)s", datefmt="%H:%M:%S")
    process = int(os.environ.get("RANK", 0))
    log.setLevel(logging.ERROR if process else logging.DEBUG)
    folder, interrupt = RunFolder(Path(path)), Interrupt()
    if not process:  # the executor may have been killed before it could
        folder.write("process", {"pid": os.getppid() if "RANK" in os.environ else os.getpid()})
    try:
        from .execution import execute  # torch takes seconds, in which the executor looks for the process

        with interrupt.listening():
            details = execute(folder, interrupt)
    except SystemExit:  # whoever sent SIGTERM says what becomes of the run
        return EXIT_CODE
    except FinetunerError as error:
        log.error("%s", error)
        folder.write("outcome", {"status": FAILED, "details": str(error)})
        return 1
    except BaseException as error:
        if interrupt.asked:  # and another process of the run has gone before this one
            return EXIT_CODE
        log.exception("The run failed")
        folder.write("outcome", {"status": FAILED, "details": f"{type(error).__name__}: {error}"})
        return 1
    if not process:
        folder.write("outcome", {"status": FINISHED, "details": details})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
