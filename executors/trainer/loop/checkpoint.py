"""Writes and reads the checkpoint of a run: one file, replaced atomically, read without unpickling objects."""

from __future__ import annotations

import json
import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetuner.exceptions import FinetunerError
from finetuner.workspace.folder import sync_folder

from ..run_folder import always

log = logging.getLogger("finetuner")


class Checkpoint:
    """The checkpoint file of one run.

    Args:
        file: may not exist yet; its folder must.
        seconds: least time between two checkpoints.
        may_write: of the run's folder; ends the process if it has lost the run.
    """

    def __init__(self, file: Path, seconds: float, may_write: Callable[[], None] = always) -> None:
        self._file = file
        self._seconds = seconds
        self._may_write = may_write
        self._written = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether enough time has passed since the last checkpoint."""
        return time.monotonic() - self._written >= self._seconds

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint. If that fails, for example on a full disk, the last good one stays.

        Args:
            state: tensors, numbers, strings, and lists and dicts of them.
        """
        self._may_write()
        temporary = self._file.with_suffix(".new")
        try:
            temporary.unlink(missing_ok=True)  # a process that has lost the run may have it open
            with open(temporary, "wb") as file:
                torch.save(dict(state), file)
                file.flush()
                os.fsync(file.fileno())
            self._may_write()  # gigabytes take a while
            os.replace(temporary, self._file)
            sync_folder(self._file.parent)
        except (OSError, RuntimeError) as error:  # torch wraps errors of the file
            temporary.unlink(missing_ok=True)
            log.warning("No checkpoint at step %s, the last good one stays: %s", state.get("step"), error)
        self._written = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """Return the state, None if none was written.

        Raises:
            FinetunerError: the file is damaged.
        """
        try:
            state: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)  # noqa: TID251
        except FileNotFoundError:
            return None
        except Exception as error:
            raise FinetunerError(
                f"checkpoint must be complete. Got {self._file.name}, which cannot be read: {error}. Start a new run."
            ) from error
        return state

    def delete(self) -> None:
        """Remove the file, after the end of the run."""
        self._file.unlink(missing_ok=True)


def random_state() -> dict[str, Any]:
    """Return the state of every global random generator of the process."""
    _, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": json.dumps(random.getstate()),
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Restore the generators. Those of GPUs are restored only if their number is the same."""
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == (torch.cuda.device_count() if torch.cuda.is_available() else 0):
        torch.cuda.set_rng_state_all(state["cuda"])
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))
    version, numbers, gauss = json.loads(state["python"])
    random.setstate((version, tuple(numbers), gauss))
