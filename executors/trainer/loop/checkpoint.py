"""What a run needs to go on where it was killed: one file, replaced as a whole, read without unpickling objects."""

from __future__ import annotations

import json
import logging
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetuner.exceptions import FinetunerError
from finetuner.workspace.folder import sync_folder

log = logging.getLogger("finetuner")


class Checkpoint:
    """The file of one run.

    Args:
        file: may not be there yet; its folder is.
        seconds: between two checkpoints, at least.
    """

    def __init__(self, file: Path, seconds: float) -> None:
        self._file = file
        self._seconds = seconds
        self._written = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the last one is old enough."""
        return time.monotonic() - self._written >= self._seconds

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint; where that fails, on a full disk for example, the last good one stays.

        Args:
            state: tensors, numbers, strings, and lists and dicts of them.
        """
        temporary = self._file.with_suffix(".new")
        try:
            with open(temporary, "wb") as file:
                torch.save(dict(state), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._file)
            sync_folder(self._file.parent)
        except (OSError, RuntimeError) as error:  # torch wraps what the file raised
            temporary.unlink(missing_ok=True)
            log.warning("No checkpoint at step %s, the last good one stays: %s", state.get("step"), error)
        self._written = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """Return the state, None where none was written.

        Raises:
            FinetunerError: the file is damaged.
        """
        try:
            state: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise FinetunerError(
                f"checkpoint must be whole. Got {self._file.name}, which cannot be read: {error}. Start a new run."
            ) from error
        return state

    def delete(self) -> None:
        """Remove the file, once nothing is left to go on with."""
        self._file.unlink(missing_ok=True)


def random_state() -> dict[str, Any]:
    """Return the state of every generator of random numbers that belongs to the process."""
    _, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": json.dumps(random.getstate()),
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put the generators back; those of GPUs only where there are as many."""
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == (torch.cuda.device_count() if torch.cuda.is_available() else 0):
        torch.cuda.set_rng_state_all(state["cuda"])
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))
    version, numbers, gauss = json.loads(state["python"])
    random.setstate((version, tuple(numbers), gauss))
