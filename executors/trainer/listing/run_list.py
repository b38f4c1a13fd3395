"""Pages of the table of runs, filtered and sorted by the database, and what people write beside a run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from finetuner.contract.wire import ENDED, FINISHED, MAX_PAGE_SIZE, RUN_STATES
from finetuner.database.dialects import Words, json_field, position
from finetuner.database.tables import NOTES, RUNS
from finetuner.exceptions import AlreadyExists, InvalidInput
from finetuner.workspace.folder import DAMAGE

from ..run_folder import RESOLVED, RunFolder
from ..run_store import RunRecord, RunStore
from .edits import Edit
from .wanted import METRIC, Wanted

NO_NOTE: dict[str, Any] = {"note": "", "tags": []}


class RunList:
    """The table of runs as people read it.

    Args:
        store: the runs.
        folder_of: folder of a run, by artifact id.
    """

    def __init__(self, store: RunStore, folder_of: Callable[[str], Path]) -> None:
        self._store, self._database, self._folder_of = store, store.database, folder_of

    def page(self, wanted: Wanted) -> tuple[list[RunRecord], int]:
        """Return the runs of the wanted page, and the number of those on all pages.

        Sorting or filtering by a metric reads the scores of every run that the other filters leave, once each.
        """
        conditions, size = _conditions(wanted), wanted.size
        start = (wanted.page - 1) * size
        if not wanted.needs_scores:
            with self._database.connect() as connection:
                count = sa.select(sa.func.count()).select_from(_both()).where(*conditions)
                total = int(connection.execute(count).scalar_one())
                chosen = sa.select(RUNS).select_from(_both()).where(*conditions).order_by(*_order(wanted))
                rows = connection.execute(chosen.limit(size).offset(start))
                return list(_read(rows)), total
        with self._database.connect() as connection:
            ids = sa.select(RUNS.c.artifact_id, RUNS.c.ended_at).select_from(_both()).where(*conditions)
            found = connection.execute(ids.order_by(*_order(wanted))).all()
        scored = [(_score(self._folder_of(id_), ended_at, wanted.metric), id_) for id_, ended_at in found]
        if wanted.least is not None:
            scored = [(value, id_) for value, id_ in scored if value is not None and value >= wanted.least]
        if wanted.sort == METRIC:  # runs without the metric come last both ways
            sign = -1 if wanted.descending else 1
            scored.sort(key=lambda pair: (pair[0] is None, sign * (pair[0] or 0.0)))
        ids_of_page = [id_ for _, id_ in scored[start : start + size]]
        with self._database.connect() as connection:
            rows = connection.execute(sa.select(RUNS).where(RUNS.c.artifact_id.in_(ids_of_page)))
            runs = {run.artifact_id: run for run in _read(rows)}
        return [runs[id_] for id_ in ids_of_page if id_ in runs], len(scored)

    def page_described(self, wanted: Wanted) -> dict[str, Any]:
        """Return {'items', 'total'}: the runs of the wanted page with their metrics, and the number on all pages."""
        runs, total = self.page(wanted)
        return {"items": self.described(runs, metrics=True), "total": total}

    def changes(self) -> dict[str, Any]:
        """Return {'version', 'counts'}: a text that differs after each change of the list, and the runs by status."""
        with self._database.connect() as connection:
            grouped = sa.select(RUNS.c.status, sa.func.count()).group_by(RUNS.c.status)
            counts = {str(status): int(count) for status, count in connection.execute(grouped)}
            latest = (sa.func.max(column) for column in (RUNS.c.created_at, RUNS.c.started_at, RUNS.c.ended_at))
            times = connection.execute(sa.select(*latest)).one()
            noted = connection.execute(sa.select(sa.func.count(), sa.func.max(NOTES.c.changed_at))).one()
        by_status = {status: counts.get(status, 0) for status in RUN_STATES}
        return {"version": json.dumps([list(by_status.values()), list(times), list(noted)]), "counts": by_status}

    def described(self, runs: Sequence[RunRecord], *, metrics: bool = False) -> list[dict[str, Any]]:
        """Return runs as their endpoints describe them, on request with the metrics of finished ones."""
        notes = self.notes([run.artifact_id for run in runs])
        return [self._described(run, notes.get(run.artifact_id, NO_NOTE), metrics) for run in runs]

    def _described(self, run: RunRecord, note: dict[str, Any], metrics: bool) -> dict[str, Any]:
        folder = self._folder_of(run.artifact_id)
        return {
            "name": run.name,
            "experiment": run.experiment,
            "artifact_id": run.artifact_id,
            "config": run.config,
            "resolved": RunFolder(folder).read(RESOLVED) or {},
            "status": run.status,
            "details": run.details,
            "created_at": run.created_at,
            "started_at": run.started_at,
            "ended_at": run.ended_at,
            **note,
            **({"metrics": _scores(folder) if run.status == FINISHED else {}} if metrics else {}),
        }

    def notes(self, artifact_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return {'note', 'tags'} of each run that has them, by artifact id."""
        few = [NOTES.c.artifact_id.in_(artifact_ids)] if len(artifact_ids) <= MAX_PAGE_SIZE else []
        with self._database.connect() as connection:
            rows = connection.execute(sa.select(NOTES).where(*few))
            return {row.artifact_id: {"note": row.note, "tags": _tags(row.tags)} for row in rows}

    def edit(self, run: RunRecord, edit: Edit) -> None:
        """Change name, note or tags of a run.

        Raises:
            InvalidInput: a new name for a run that has not ended: its worker and its log say the old one.
            AlreadyExists: the experiment has a run of the new name.
        """
        renames = edit.new_name not in (None, run.name)
        if renames and run.status not in ENDED:
            raise InvalidInput(
                f"run must have ended to get another name. Got {run.name!r}, which is {run.status}. Wait, or cancel it."
            )
        known = self.notes([run.artifact_id]).get(run.artifact_id, NO_NOTE)
        row = {
            "note": known["note"] if edit.note is None else edit.note,
            "tags": json.dumps(known["tags"] if edit.tags is None else edit.tags),
            "changed_at": time.time(),
        }
        mine = NOTES.c.artifact_id == run.artifact_id
        try:
            with self._database.begin() as connection:
                if renames:
                    config = json.dumps({**run.config, "run_name": edit.new_name})
                    renamed = sa.update(RUNS).where(RUNS.c.artifact_id == run.artifact_id)
                    connection.execute(renamed.values(name=edit.new_name, config=config))
                if not connection.execute(sa.update(NOTES).where(mine).values(row)).rowcount:
                    connection.execute(sa.insert(NOTES).values(artifact_id=run.artifact_id, **row))
        except sa.exc.IntegrityError as error:
            raise AlreadyExists(
                f"new_name must be new in experiment {run.experiment!r}. Got {edit.new_name!r}, which exists. "
                f"Choose another name."
            ) from error

    def forget(self, artifact_id: str) -> None:
        """Delete what people wrote beside a run."""
        with self._database.begin() as connection:
            connection.execute(sa.delete(NOTES).where(NOTES.c.artifact_id == artifact_id))


def _both() -> sa.FromClause:
    return RUNS.outerjoin(NOTES, RUNS.c.artifact_id == NOTES.c.artifact_id)


def _config(field: str) -> sa.ColumnElement[Any]:
    """Return a field of the configuration. A damaged configuration has none."""
    return json_field(RUNS.c.config, sa.literal(field))


def _contains(column: sa.ColumnElement[Any], text: str) -> sa.ColumnElement[bool]:
    return position(sa.func.lower(column), sa.literal(text.lower(), Words)) > 0  # `%` and `_` are letters here


def _conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.text:
        columns = (RUNS.c.name, RUNS.c.experiment, NOTES.c.note)
        parts = (_contains(column, wanted.text) for column in columns)
        found.append(sa.or_(RUNS.c.artifact_id == wanted.text, *parts))
    if wanted.status:
        found.append(RUNS.c.status.in_(wanted.status))
    if wanted.model:
        found.append(sa.or_(_config("model") == wanted.model, _config("model_artifact") == wanted.model))
    if wanted.data:
        found.append(sa.or_(_config("train_data") == wanted.data, _config("eval_data") == wanted.data))
    if wanted.experiment:
        found.append(RUNS.c.experiment == wanted.experiment)
    if wanted.tag:
        found.append(position(NOTES.c.tags, sa.literal(json.dumps(wanted.tag))) > 0)  # with its quotes: the whole tag
    if wanted.since is not None:
        found.append(RUNS.c.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(RUNS.c.created_at <= wanted.until)
    return found


def _order(wanted: Wanted) -> list[sa.ColumnElement[Any]]:
    columns: dict[str, sa.ColumnElement[Any]] = {
        "name": sa.func.lower(RUNS.c.name),
        "status": RUNS.c.status,
        "model": _config("model"),
        "data": _config("train_data"),
        "duration": RUNS.c.ended_at - RUNS.c.started_at,
    }
    newest = [RUNS.c.created_at.desc(), RUNS.c.artifact_id]
    if wanted.sort not in columns:
        return newest if wanted.descending else [RUNS.c.created_at.asc(), RUNS.c.artifact_id]
    column = columns[wanted.sort]
    return [(column.desc() if wanted.descending else column.asc()).nulls_last(), *newest]


def _read(rows: Iterable[sa.Row[Any]]) -> Iterable[RunRecord]:
    for row in rows:
        try:
            yield RunRecord.read(dict(row._mapping))
        except DAMAGE:  # `RunStore.problems` reports it
            continue


def _tags(text: str) -> list[str]:
    try:
        return [str(tag) for tag in json.loads(text)]
    except DAMAGE:
        return []


def _score(folder: Path, ended_at: float | None, metric: str) -> float | None:
    value = _after(folder, ended_at).get(metric)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


@lru_cache(maxsize=16_384)
def _after(folder: Path, ended_at: float | None) -> dict[str, Any]:
    """Return the metrics after training. A run that ends anew has another `ended_at`."""
    return {} if ended_at is None else dict(_scores(folder).get("after") or {})


def _scores(folder: Path) -> dict[str, Any]:
    try:
        return RunFolder(folder).read("scores") or {}
    except (ValueError, TypeError, OSError):  # damaged: the run is shown without scores
        return {}
