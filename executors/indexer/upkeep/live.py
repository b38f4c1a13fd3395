"""What `live` searches: one pointer in the workspace, and where it is to go next.

`aliases/` holds two of them. `live` is set by a promotion. `search` is set here alone: encoders take it for the
queries and documents of `live`, so both stay with the old artifact until every document has a vector of the new one.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace

from finetuner.artifacts.registry import LIVE, SEARCHED
from finetuner.workspace.folder import Workspace, write_atomically

RUNNING, FINISHED, FAILED, CANCELED = "RUNNING", "FINISHED", "FAILED", "CANCELED"


@dataclass(frozen=True, slots=True)
class Job:
    """The re-index that a promotion asked for."""

    artifact: str
    """That everything is encoded with."""
    source: str
    """That searches are answered with meanwhile."""
    promoted_at: float
    """Seconds since the epoch; a later promotion of the same artifact is another job."""
    state: str = RUNNING
    started_at: float = 0.0
    """Seconds since the epoch."""
    error: str = ""
    """Why it does not go on, or failed."""


class Live:
    """The pointers, and the job as it stands in `<index>/reindex.json`.

    Args:
        place: the workspace.
    """

    def __init__(self, place: Workspace) -> None:
        self._place = place
        self._file = place.index / "reindex.json"

    @property
    def searched(self) -> str:
        """The artifact that `live` searches; '' where nothing was indexed for it."""
        return self._place.artifact_of(SEARCHED) or ""

    @property
    def promoted(self) -> str:
        """The artifact that was promoted last, '' where none was."""
        return self._place.artifact_of(LIVE) or ""

    def search_with(self, artifact: str) -> None:
        """Let `live` search another artifact from now on, all at once."""
        self._place.aliases.set(SEARCHED, {"artifact": artifact, "since": time.time()})

    def job(self) -> Job | None:
        """Return the last job, None where there never was one."""
        try:
            return Job(**json.loads(self._file.read_bytes()))
        except FileNotFoundError:
            return None

    def note(self, job: Job, state: str, error: str = "") -> Job:
        """Write down how far a job is, and return it so."""
        noted = replace(job, state=state, error=error)
        write_atomically(self._file, json.dumps(asdict(noted)).encode())
        return noted

    def wanted(self) -> Job | None:
        """Return the job that is to be done now, None where `live` is searched already or the job has ended."""
        target, source = self._place.aliases.get(LIVE), self.searched
        if target is None or not source:
            return None
        artifact, promoted_at = str(target["artifact"]), float(target.get("promoted_at", 0))
        job = self.job()
        if job is not None and (job.artifact, job.promoted_at) == (artifact, promoted_at):
            return job if job.state == RUNNING else None
        return None if artifact == source else Job(artifact, source, promoted_at, started_at=time.time())
