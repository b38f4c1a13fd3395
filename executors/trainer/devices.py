"""Devices and their queues: the CPU and each GPU take one run at a time."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from finetuner.config.run_config import RunConfig
from finetuner.contract.checks import whole
from finetuner.exceptions import InvalidInput

from .run_store import RunRecord

CPU = "cpu"
VISIBLE = "CUDA_VISIBLE_DEVICES"
MAX_GPUS = 1024


@dataclass(frozen=True)
class Assignment:
    """A waiting run and the devices that it gets."""

    run: RunRecord
    devices: tuple[str, ...]
    """('cpu',), or the names of GPUs."""


class Devices:
    """The devices of this machine, with one queue for the CPU and one for all GPUs.

    Args:
        gpus: names of the GPUs, in the form that CUDA_VISIBLE_DEVICES takes.
    """

    def __init__(self, gpus: Sequence[str]) -> None:
        self.gpus = tuple(gpus)

    def check(self, config: RunConfig) -> None:
        """Check that a new run fits on the GPUs of this machine.

        Raises:
            InvalidInput: the run wants more processes than there are GPUs.
        """
        count = config.options.num_processes
        if self.gpus and config.device != CPU and count > len(self.gpus):
            raise InvalidInput(
                f"num_processes must be at most the number of GPUs, {len(self.gpus)}. Got {count}. Lower it."
            )

    def assign(self, waiting: Iterable[RunRecord], occupied: Collection[str]) -> list[Assignment]:
        """Return the waiting runs that can start now.

        Each queue is first come, first served. While its first run waits for more GPUs, no later run takes a free GPU.
        A run on many GPUs therefore never starves.

        Args:
            waiting: oldest first.
            occupied: names of the devices that running runs hold.
        """
        free_gpus = [gpu for gpu in self.gpus if gpu not in occupied]
        cpu_is_free = CPU not in occupied
        assigned = []
        for run in waiting:
            wanted = self._gpus_of(run)
            if not wanted:
                if cpu_is_free:
                    assigned.append(Assignment(run, (CPU,)))
                cpu_is_free = False
            elif wanted <= len(free_gpus):
                assigned.append(Assignment(run, tuple(free_gpus[:wanted])))
                free_gpus = free_gpus[wanted:]
            else:
                free_gpus = []
        return assigned

    def _gpus_of(self, run: RunRecord) -> int:
        """Return the number of GPUs that a run occupies, one for each process; 0 means the CPU.

        On a machine without a GPU, a run on 'cuda' falls back to the CPU. A run that was recorded on a larger machine
        takes all GPUs, and its worker reports that they are too few.
        """
        return 0 if run.device == CPU else min(run.num_processes, len(self.gpus))


def environment(devices: Iterable[str]) -> dict[str, str]:
    """Return the environment variable that hides all other GPUs from a worker."""
    return {VISIBLE: ",".join(device for device in devices if device != CPU)}


def find_gpus(count: int | None = None) -> tuple[str, ...]:
    """Return the names of the GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them.

    Args:
        count: number of GPUs to use; None counts the CUDA devices.

    Raises:
        InvalidInput: a count that is not a whole number in [0, 1024].
    """
    count = _count_cuda_devices() if count is None else whole("gpus", count, 0, MAX_GPUS)
    given = os.environ.get(VISIBLE)
    names = [name.strip() for name in given.split(",")] if given else [str(number) for number in range(count)]
    return tuple(names[:count])


def _count_cuda_devices() -> int:
    """Return the number of CUDA devices, by the driver.

    torch would give the same number, but its import costs the trainer seconds and hundreds of MB. The driver creates
    no context on a device for this.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:  # no driver
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value
