"""The messages between trainer and worker: small JSON files in the folder of a run, one dataclass each.

Trainer and worker are two processes, and either may be killed at any moment. Each file is therefore written as a
whole, and read again by whoever is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

from finetuner.config.run_config import RunConfig
from finetuner.exceptions import FinetunerError
from finetuner.workspace.folder import DAMAGE

from .run_folder import RunFolder

KINDS: dict[Any, type] = {"int": int, "str": str}  # of plain fields


@dataclass(frozen=True)
class WorkerSettings:
    """The trainer's settings for every worker."""

    threads: int = 0
    """CPU threads of a training process; 0 leaves the number to torch."""
    checkpoint_seconds: float = 600
    """Seconds between two checkpoints of a run; each epoch ends with another one."""
    image_cache_gb: float = 20
    """GB of decoded images that later runs can reuse; 0 keeps none."""
    lease_seconds: float = 60
    """Length of the run's lease without renewal, with a database server."""


@dataclass(frozen=True)
class RunRequest:
    """request.json: the order to run, from the trainer to the worker."""

    artifact_id: str
    """24 hex characters; the run publishes its artifact under this id."""
    config: RunConfig
    data: Mapping[str, str]
    """Use, such as 'train' or 'eval' -> content hash of the dataset."""
    workspace: str
    """Folder that all rooms share."""
    devices: tuple[str, ...]
    """Names of the devices that the run occupies, see `Devices`."""
    settings: WorkerSettings
    lease: int = 0
    """Number of the run's lease, see `leases`; 0 for one that the workspace's lock replaces."""

    def write(self, folder: RunFolder) -> None:
        """Write request.json."""
        folder.write("request", asdict(self))

    @classmethod
    def read(cls, folder: RunFolder) -> RunRequest:
        """Return the request of a run.

        Raises:
            FinetunerError: the file is missing or incomplete, or its configuration is not valid.
        """
        try:
            found = folder.read("request") or {}
            return cls(
                artifact_id=found["artifact_id"],
                config=RunConfig.from_dict(found["config"]),
                data=dict(found["data"]),
                workspace=found["workspace"],
                devices=tuple(found["devices"]),
                settings=WorkerSettings(**found["settings"]),
                lease=int(found.get("lease", 0)),
            )
        except FinetunerError:
            raise
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise FinetunerError(
                f"request.json must describe a run. Got {error!r} from {folder.path}. Resume the run: the trainer "
                f"writes the file again."
            ) from error


@dataclass(frozen=True)
class Message:
    """A message of plain fields."""

    NAME: ClassVar[str]
    """Name of the file, without its ending."""

    def write(self, folder: RunFolder) -> None:
        """Write the file."""
        folder.write(self.NAME, asdict(self))

    @classmethod
    def read(cls, folder: RunFolder) -> Self | None:
        """Return the message, None where the file does not exist. A damaged file is set aside."""
        try:
            found = folder.read(cls.NAME)
            return None if found is None else cls.from_json(found)
        except DAMAGE:
            folder.set_aside(cls.NAME)
            return None

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Return the message from the content of its file; raise an error of DAMAGE for another content."""
        message = cls(**found)
        for field in fields(cls):
            if field.type in KINDS and not isinstance(getattr(message, field.name), KINDS[field.type]):
                raise TypeError(field.name)
        return message


@dataclass(frozen=True)
class WorkerProcess(Message):
    """process.json: the worker of a run, to find it again after the trainer was restarted."""

    NAME = "process"

    pid: int
    devices: tuple[str, ...] = ()
    """Names of the devices that the worker occupies; none in a file of an earlier version."""

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> WorkerProcess:
        """Return the message; JSON has lists in place of tuples."""
        return cls(int(found["pid"]), tuple(map(str, found.get("devices", ()))))


@dataclass(frozen=True)
class Outcome(Message):
    """outcome.json: the end of a run; the file exists only after the end."""

    NAME = "outcome"

    status: str
    """FINISHED or FAILED."""
    details: str
    """One line for people."""


@dataclass(frozen=True)
class Attempts(Message):
    """attempts.json: the number of times that worker and trainer were killed together."""

    NAME = "attempts"

    count: int


@dataclass(frozen=True)
class Paused(Message):
    """paused.json: the worker has ended because nobody renewed its lease; the run goes on from its checkpoint."""

    NAME = "paused"

    reason: str
