"""The artifact that `live` searches, and the re-index that moves it.

`aliases/` has two pointers. A promotion sets `live`. Only this module sets `search`. Encoders use `search` for the
queries and documents of `live`, so both stay with the old artifact until every document has a vector of the new one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from finetuner.artifacts.fingerprints import known_fingerprints, same_towers
from finetuner.artifacts.registry import LIVE, SEARCHED
from finetuner.exceptions import FinetunerServerError
from finetuner.workspace.folder import DAMAGE, Workspace, set_aside, write_atomically

STATES = RUNNING, FINISHED, FAILED, CANCELED = "RUNNING", "FINISHED", "FAILED", "CANCELED"


@dataclass(frozen=True, slots=True)
class Job:
    """The re-index of one promotion."""

    artifact: str
    """The artifact that encodes every document."""
    source: str
    """The artifact that answers searches meanwhile."""
    promoted_at: float
    """Seconds since the epoch. A later promotion of the same artifact is another job."""
    state: str = RUNNING
    started_at: float = 0.0
    """Seconds since the epoch."""
    error: str = ""
    """Reason of a pause or failure."""


class Live:
    """The pointers, and the job in `<index>/reindex.json`.

    Args:
        workspace: with the aliases and the index.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._file = workspace.index / "reindex.json"
        self._problems: list[str] = []

    def problems(self) -> list[str]:
        """Return one sentence for each damaged file that was set aside."""
        return self._problems

    @property
    def searched(self) -> str:
        """The artifact that `live` searches, or '' before anything is indexed for it."""
        return self._workspace.artifact_of(SEARCHED) or ""

    @property
    def promoted(self) -> str:
        """The artifact that was promoted last, or '', also for a damaged alias."""
        with suppress(FinetunerServerError):
            return self._workspace.artifact_of(LIVE) or ""
        return ""

    def heal(self, counts: Mapping[str, int]) -> None:
        """Set a damaged job aside. Set a damaged pointer of searches to the artifact with most vectors, or to none.

        Args:
            counts: number of vectors of each artifact.
        """
        self.job()
        try:
            self._workspace.aliases.get(SEARCHED)
        except FinetunerServerError as error:
            best = max(counts, key=lambda artifact: counts[artifact], default="")
            self._workspace.aliases.delete(SEARCHED)
            if best:
                self.search_with(best)
            self._problems.append(f"{error} Searches now use {best!r}, which has most vectors.")

    def search_with(self, artifact: str) -> None:
        """Make `live` search another artifact, in one step."""
        self._workspace.aliases.set(SEARCHED, {"artifact": artifact, "since": time.time()})

    def shared_towers(self, job: Job) -> list[str]:
        """Return the towers that a job's artifact has in common with the one it follows, by their fingerprints."""
        known = [known_fingerprints(self._workspace, name) for name in (job.source, job.artifact)]
        return same_towers(*known)

    def job(self) -> Job | None:
        """Return the last job, or None. A damaged file is set aside."""
        try:
            job = Job(**json.loads(self._file.read_bytes()))
            if job.state not in STATES or not isinstance(job.artifact, str):
                raise ValueError(f"state {job.state!r:.40} of {job.artifact!r:.40}")
            return job
        except FileNotFoundError:
            return None
        except DAMAGE:
            self._problems.append(f"index/{set_aside(self._file).name} did not describe a re-index and is set aside.")
            return None

    def note(self, job: Job, state: str, error: str = "") -> Job:
        """Record a job's state and return the updated job."""
        noted = replace(job, state=state, error=error)
        write_atomically(self._file, json.dumps(asdict(noted)).encode())
        return noted

    def wanted(self) -> Job | None:
        """Return the pending job, or None if `live` is searched already or the job has ended."""
        try:
            target, source = self._workspace.aliases.get(LIVE), self.searched
        except FinetunerServerError:  # a damaged alias leads nowhere; `Workspace.aliases.problems` names it
            return None
        if target is None or not source:
            return None
        artifact, promoted_at = str(target["artifact"]), float(target.get("promoted_at", 0))
        job = self.job()
        if job is not None and (job.artifact, job.promoted_at) == (artifact, promoted_at):
            return job if job.state == RUNNING else None
        return None if artifact == source else Job(artifact, source, promoted_at, started_at=time.time())
