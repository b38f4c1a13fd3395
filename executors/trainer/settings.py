"""The settings of the trainer room."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from finetuner.contract.checks import number, whole
from finetuner.exceptions import InvalidInput
from finetuner.executors.room.settings import RoomSettings

from .run_messages import WorkerSettings


@dataclass(frozen=True)
class TrainerSettings(RoomSettings):
    """Settings of the training processes.

    Raises:
        InvalidInput: a value that is not allowed.
    """

    threads: int = 0
    """CPU threads of a training process, 0 to 1024. 0 leaves the number to torch."""
    checkpoint_seconds: float = 600
    """Seconds between two checkpoints of a run, 0 to 1e9. Each epoch ends with a checkpoint as well."""
    image_cache_gb: float = 20
    """GB of decoded images that stay for later runs, 0 to 1e6. The least recently used go first. 0 keeps none."""
    gpus: int | None = None
    """Number of GPUs, each of which trains one run at a time. None counts the CUDA devices. 0 trains on the CPU."""
    upload_quota_gb: float = 0
    """GB of datasets and artifacts that one token may upload, 0 to 1e6. 0 sets no limit."""
    min_free_mb: float = 1024
    """MiB of the workspace's disk that uploads leave free, 0 to 1e9."""
    trainer_name: str = ""
    """With a database server: name of this trainer among all that share it, up to 128 characters. '' is the host's."""
    lease_seconds: float = 60
    """With a database server: seconds after which others take the runs of a silent trainer over, 3 to 3600."""

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("threads", self.threads, 0, 1024)
        number("checkpoint_seconds", self.checkpoint_seconds, 0, 1e9)
        number("image_cache_gb", self.image_cache_gb, 0, 1e6)
        number("upload_quota_gb", self.upload_quota_gb, 0, 1e6)
        number("min_free_mb", self.min_free_mb, 0, 1e9)
        number("lease_seconds", self.lease_seconds, 3, 3600)
        name: object = self.trainer_name
        if not isinstance(name, str) or len(name) > 128 or not name.isprintable():
            raise InvalidInput(
                f"trainer_name must be a text of at most 128 printable characters. Got {name!r:.140}. Choose another."
            )

    @property
    def owner(self) -> str:
        """Name of this trainer among all that share a database server."""
        return self.trainer_name or socket.gethostname()[:128]

    def of_workers(self) -> WorkerSettings:
        """Return the settings of every worker."""
        return WorkerSettings(self.threads, self.checkpoint_seconds, self.image_cache_gb, self.lease_seconds)
