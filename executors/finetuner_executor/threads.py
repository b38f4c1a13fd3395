"""How many CPU threads a model may use, and why it is sometimes one."""

from __future__ import annotations

import multiprocessing
import sys

from finetuner.exceptions import InvalidInput

MOST = 1024


def set_threads(*, omp: int | None, intra_op: int | None, inter_op: int | None, is_onnx: bool) -> str:
    """Tell torch how many threads to use; None leaves a number to torch.

    A process that was forked after torch had been imported uses one: the threads of torch's OpenMP are not forked
    with it, and the first computation that wants them waits for ever.

    Args:
        omp: OpenMP threads of one operation.
        intra_op: the same, by torch's own name; both may be given where they are equal.
        inter_op: operations at a time.
        is_onnx: whether the model runs in ONNX Runtime, which has threads of its own.

    Returns:
        What the log should say, '' for nothing.

    Raises:
        InvalidInput: a number that is none or cannot be, or two that differ.
    """
    given = {"omp_num_threads": omp, "intra_op_num_threads": intra_op, "inter_op_num_threads": inter_op}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
            raise InvalidInput(f"{name} must be 1 to {MOST}. Got {value!r}. Leave it out for torch's own choice.")
    if is_onnx:
        if given:
            raise InvalidInput(
                f"{', '.join(given)} must be left out with is_onnx: ONNX Runtime has threads of its own. "
                f"Got {', '.join(str(value) for value in given.values())}."
            )
        return ""
    if omp is not None and intra_op is not None and omp != intra_op:
        raise InvalidInput(
            f"omp_num_threads and intra_op_num_threads must be equal: both are the threads of one operation. "
            f"Got {omp} and {intra_op}. Leave one out."
        )
    forked = _forked_with_torch()
    threads = omp or intra_op
    if forked and threads not in (None, 1):
        raise InvalidInput(
            f"omp_num_threads must be 1 in a process forked from one that uses torch. Got {threads}. "
            f"Set JINA_MP_START_METHOD=spawn before `import jina`."
        )
    import torch

    if forked or threads:
        torch.set_num_threads(threads or 1)
    if inter_op is not None and inter_op != torch.get_num_interop_threads():
        torch.set_num_interop_threads(inter_op)  # once in a process, and before torch computes anything
    return "" if not forked else "one CPU thread: this process was forked from one that uses torch"


def _forked_with_torch() -> bool:
    forked = multiprocessing.parent_process() is not None and multiprocessing.get_start_method() == "fork"
    return forked and "torch" in sys.modules
