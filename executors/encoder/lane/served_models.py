"""Keeps the models of a room in memory: loads a new model beside the old ones, checks it, and then switches.

A request by id waits for that model. A request by alias gets the previous model of the alias until the new one is
ready. If the new one is damaged, the previous one keeps answering.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock, Thread

from finetuner.artifacts.registry import LIVE
from finetuner.exceptions import FinetunerError

from .metrics import LaneMetrics
from .runner import Runner
from .settings import ServedSettings

LOOK_SECONDS = 0.2  # between two checks of the aliases
RETRY_SECONDS = 10.0  # before a model that failed to load is tried again
WATCHED_ALIASES = 16


@dataclass
class _Alias:
    """An alias, its target, and the model that answers for it."""

    answering: Runner | None = None
    """Loaded model that answered last."""
    target: str = ""
    """Model id that the alias points to."""
    since: float = 0.0
    """Time of the first check that saw this target, by `time.monotonic`."""


class ServedModels:
    """Loads models in a separate thread and keeps the last used ones, until `close`.

    Args:
        resolve: function from an artifact id, alias or backbone to its current model id.
        load: function from a model id to the model, on its device.
        settings: number of models, and duration of a promotion.
        metrics: metrics of the lane.
        log: function that gets a message about each model that failed to load.
    """

    def __init__(
        self,
        resolve: Callable[[str], str],
        load: Callable[[str], Runner],
        settings: ServedSettings,
        metrics: LaneMetrics,
        log: Callable[[str], None],
    ) -> None:
        self._resolve = resolve
        self._load_runner = load
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._lock = Lock()
        self._loaded: OrderedDict[str, Runner] = OrderedDict()
        self._loading: dict[str, Future[Runner]] = {}
        self._failed: dict[str, tuple[float, Future[Runner]]] = {}
        self._aliases = {LIVE: _Alias()}
        self._loader = ThreadPoolExecutor(1, "model-loader")
        self._closed = Event()
        metrics.models.set_function(lambda: len(self._loaded))
        metrics.model_bytes.set_function(lambda: sum(runner.bytes for runner in list(self._loaded.values())))
        with suppress(Exception):  # it is logged; the room starts, so another artifact can be promoted
            self._choose(LIVE)[0].result()  # before the first request
        self._watcher = Thread(target=self._watch, name="alias-watcher", daemon=True)
        self._watcher.start()

    async def get(self, reference: str = LIVE, *, current: bool = False) -> Runner:
        """Return the current model of a reference.

        Args:
            reference: artifact id, alias or backbone.
            current: whether to wait for the model that an alias points to, even if the previous model could answer.

        Raises:
            ArtifactNotFound, CorruptedArtifact, KeysMismatchError, NoSuchModel
        """
        if reference in self._aliases or reference in self._loaded:  # one small file is read, or none
            wanted, previous, patience = self._choose(reference)
        else:
            wanted, previous, patience = await asyncio.to_thread(self._choose, reference)
        if wanted.done() and wanted.exception() is None:
            return wanted.result()
        if previous is None or (current and not wanted.done()):
            patience = None
        waiting = asyncio.wrap_future(wanted)
        waiting.add_done_callback(_seen)
        try:
            async with asyncio.timeout(patience):
                return await asyncio.shield(waiting)  # a caller that stops waiting does not stop the load
        except Exception:
            if previous is None:
                raise
            return previous

    @property
    def loaded(self) -> list[str]:
        """Ids of the models in memory, least recently used first."""
        return list(self._loaded)

    def close(self) -> None:
        """Stop loading, and forget all models."""
        self._closed.set()
        self._loader.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._loaded.clear()
            self._aliases.clear()

    def _choose(self, reference: str) -> tuple[Future[Runner], Runner | None, float | None]:
        """Return the requested model, the model that may answer until it is loaded, and the seconds to wait for it."""
        model_id = self._resolve(reference)
        with self._lock:
            wanted = self._wanted(model_id)
            if reference == model_id or (reference not in self._aliases and len(self._aliases) >= WATCHED_ALIASES):
                return wanted, None, None
            alias = self._aliases.setdefault(reference, _Alias())
            if alias.target != model_id:
                alias.target, alias.since = model_id, time.monotonic()
            if wanted.done() and wanted.exception() is None:
                alias.answering = wanted.result()
                return wanted, None, None
            waited = time.monotonic() - alias.since
            if wanted.done() or waited < self._settings.switch_limit:
                return wanted, alias.answering, max(self._settings.switch_wait - waited, 0)
            return wanted, None, None

    def _wanted(self, model_id: str) -> Future[Runner]:
        """Return a model that is loaded or loading, or start to load it. The caller holds the lock."""
        if model_id in self._loaded:
            self._loaded.move_to_end(model_id)
            found: Future[Runner] = Future()
            found.set_result(self._loaded[model_id])
            return found
        failed_at, failure = self._failed.get(model_id, (-RETRY_SECONDS, None))
        if failure is not None and time.monotonic() < failed_at + RETRY_SECONDS:
            return failure
        if model_id not in self._loading:
            self._loading[model_id] = self._loader.submit(self._load, model_id)
        return self._loading[model_id]

    def _load(self, model_id: str) -> Runner:
        started = time.perf_counter()
        try:
            runner = self._load_runner(model_id)
            runner.check()
        except Exception as error:
            self._metrics.loads.labels("error").inc()
            self._metrics.refused(error)
            self._log(f"{model_id} cannot be loaded: {error}")
            with self._lock:
                self._failed[model_id] = (time.monotonic(), self._loading.pop(model_id))
                while len(self._failed) > WATCHED_ALIASES:
                    del self._failed[next(iter(self._failed))]
            raise
        self._metrics.load.observe(time.perf_counter() - started)
        self._metrics.loads.labels("ok").inc()
        with self._lock:
            self._loaded[model_id] = runner
            self._failed.pop(model_id, None)
            del self._loading[model_id]
            for alias in self._aliases.values():
                if alias.target == model_id:
                    alias.answering = runner
            self._evict()
        return runner

    def _evict(self) -> None:
        """Drop models past the bounds, least recently used first. Requests in progress keep theirs."""
        most = self._settings.models_mb * 2**20
        while len(self._loaded) > 1 and (
            len(self._loaded) > self._settings.models
            or (most and sum(runner.bytes for runner in self._loaded.values()) > most)
        ):
            _, gone = self._loaded.popitem(last=False)
            for alias in self._aliases.values():
                if alias.answering is gone:
                    alias.answering = None

    def _watch(self) -> None:
        """Load promoted models before the first request for them, until `close`."""
        while not self._closed.wait(LOOK_SECONDS):
            for reference, alias in list(self._aliases.items()):
                with suppress(FinetunerError, OSError, RuntimeError):  # a deleted alias; a closed loader
                    if self._resolve(reference) != alias.target:
                        self._choose(reference)


def _seen(waiting: asyncio.Future[Runner]) -> None:
    """Retrieve an exception that no caller waits for; it is logged already."""
    if not waiting.cancelled():
        waiting.exception()
