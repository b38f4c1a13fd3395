"""Sets the number of CPU threads that torch computes with."""

from __future__ import annotations

import multiprocessing
import sys

from finetuner.exceptions import InvalidInput


def set_threads(threads: int | None, operations: int | None) -> bool:
    """Set torch's threads; None leaves a number to torch.

    A process forked from one that has imported torch computes with one thread. The threads of OpenMP are not forked,
    and the first computation that needs them would wait forever.

    Args:
        threads: CPU threads of one operation.
        operations: operations that run at a time.

    Returns:
        Whether the process computes with one thread because it was forked.

    Raises:
        InvalidInput: more than one thread in such a process.
    """
    forked = _forked_with_torch()
    if forked and threads not in (None, 1):
        raise InvalidInput(
            f"omp_num_threads must be 1 in a process forked from one that uses torch. Got {threads}. "
            f"Set JINA_MP_START_METHOD=spawn before `import jina`."
        )
    import torch

    if forked or threads:
        torch.set_num_threads(threads or 1)
    if operations is not None and operations != torch.get_num_interop_threads():
        torch.set_num_interop_threads(operations)  # torch allows it once, before its first computation
    return forked


def _forked_with_torch() -> bool:
    forked = multiprocessing.parent_process() is not None and multiprocessing.get_start_method() == "fork"
    return forked and "torch" in sys.modules
