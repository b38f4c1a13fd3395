"""The models that a room serves: loaded beside the old ones, tried, and only then used.

Whoever names an id waits for that model. Whoever names an alias is answered by the model that the alias meant before
until the new one is ready; where the new one is damaged, that one goes on.
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

LOOK_SECONDS = 0.2  # how often aliases are looked at
RETRY_SECONDS = 10.0  # until a model that could not be loaded is tried again
WATCHED_ALIASES = 16


@dataclass
class _Alias:
    """What an alias means."""

    answering: Runner | None = None
    """Its model of the last request or look."""
    target: str = ""
    """The model id that it points to now."""
    since: float = 0.0
    """When it was seen to point there."""


class ServedModels:
    """Loads models in a thread of its own and keeps the last used ones, until `close`.

    Args:
        resolve: an artifact id, alias or backbone -> the model id that it means now.
        load: a model id -> that model, on its device.
        settings: as above.
        metrics: counts and times.
        log: told what could not be loaded.
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
        with suppress(FinetunerError):  # in the log; up all the same, so that another artifact can be promoted
            self._choose(LIVE)[0].result()  # the first request finds it loaded
        self._watcher = Thread(target=self._watch, name="alias-watcher", daemon=True)
        self._watcher.start()

    async def get(self, reference: str = LIVE, *, current: bool = False) -> Runner:
        """Return the model that a reference means now.

        Args:
            reference: an artifact id, alias or backbone.
            current: wait for what an alias points to, even where the model before it could answer.

        Raises:
            ArtifactNotFound, CorruptedArtifact, KeysMismatchError, NoSuchModel
        """
        wanted, before, patience = await asyncio.to_thread(self._choose, reference)
        if before is None or (current and not wanted.done()):
            patience = None
        waiting = asyncio.wrap_future(wanted)
        waiting.add_done_callback(_seen)
        try:
            async with asyncio.timeout(patience):
                return await asyncio.shield(waiting)  # the load goes on, whoever gives up waiting
        except Exception:
            if before is None:
                raise
            return before

    @property
    def loaded(self) -> list[str]:
        """Ids of the models in memory, least recently used first."""
        return list(self._loaded)

    def close(self) -> None:
        """Load nothing more."""
        self._closed.set()
        self._loader.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._loaded.clear()
            self._aliases.clear()

    def _choose(self, reference: str) -> tuple[Future[Runner], Runner | None, float | None]:
        """Return the model wanted, the one that may answer until then, and the seconds to wait for the former."""
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
        """Return the model that is loaded, that is being loaded, or whose loading starts here."""
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
        """Let go of models past the bounds, least recently used first; requests in flight finish on theirs."""
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
        """Load what is promoted before somebody asks for it, until `close`."""
        while not self._closed.wait(LOOK_SECONDS):
            for reference, alias in list(self._aliases.items()):
                with suppress(
                    FinetunerError, OSError, RuntimeError
                ):  # an alias that is gone; the loader that is closed
                    if self._resolve(reference) != alias.target:
                        self._choose(reference)


def _seen(waiting: asyncio.Future[Runner]) -> None:
    """Take a failure that nobody waits for any more; it is in the log."""
    if not waiting.cancelled():
        waiting.exception()
