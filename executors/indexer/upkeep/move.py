"""Moves an index from the embedded engine to a server: copies, compares, then switches all collections at once."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from finetuner.exceptions import FinetunerServerError, InvalidInput
from finetuner.executors.indexer.engines.edge import CURRENT
from finetuner.executors.indexer.engines.engine import Collection, Engine
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.storage.folders import DESCRIPTION
from finetuner.workspace.folder import DAMAGE, set_aside, temporary_folder, write_atomically

MARKER = "move.json"
PAGE = 1000
SAMPLES = 100
TOLERANCE = 1e-4


def copy_to_engine(index: Index, engine: Engine) -> dict[str, int]:
    """Copy every collection and compare counts and sampled vectors. Writes wait; searches continue.

    The index changes only when `finish_move` runs, at the latest at the next opening. After a failure the copies on
    the server are dropped.

    Returns:
        The number of vectors of each artifact.

    Raises:
        InvalidInput: the vectors are in this engine already.
        FinetunerServerError: the engine refuses, or its copy differs.
    """
    if engine.name == index.collections.engine.name:
        raise InvalidInput(
            f"the index must move to another engine. Got {engine.name!r}, the current one. Name another URL."
        )
    copied: dict[str, int] = {}
    descriptions: dict[str, dict[str, Any]] = {}
    scratch = temporary_folder(index.collections.folder_of("").parent)
    try:
        with index.writing:
            for artifact, source in index.collections.all().items():
                folder = index.collections.folder_of(artifact)
                name = f"finetuner-{uuid.uuid4().hex}"
                descriptions[folder.name] = index.collections.describe(folder) | {"engine": engine.name, "name": name}
                engine.create(scratch / folder.name, name, source.dim)
                target = engine.open(scratch / folder.name, name, source.dim)
                for path, kind in index.fields.indexed().items():
                    target.index_field(path, kind)
                copied[artifact] = _copy(source, target)
                target.close()
            write_atomically(scratch.parent / MARKER, json.dumps(descriptions).encode())
    except BaseException:
        for described in descriptions.values():
            engine.drop(described["name"])
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return copied


def finish_move(folder: Path) -> None:
    """Finish the move of a closed index: its descriptions name the server, its local vectors go. Else do nothing."""
    marker = folder / MARKER
    if not marker.exists():
        return
    try:
        descriptions = {Path(name).name: dict(each) for name, each in json.loads(marker.read_bytes()).items()}
    except DAMAGE:  # the vectors are still here
        set_aside(marker)
        return
    for name, described in descriptions.items():
        write_atomically(folder / name / DESCRIPTION, json.dumps(described).encode())
    marker.unlink()
    for left in [*folder.glob("*/shard-*"), *folder.glob(f"*/{CURRENT}")]:
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _copy(source: Collection, target: Collection) -> int:
    after, seen, samples = None, 0, []
    every = max(len(source) // SAMPLES, 1)
    while True:
        points, after = source.scroll(after, PAGE)
        if points:
            target.upsert(points)
        samples += [point for number, point in enumerate(points, seen) if number % every == 0]
        seen += len(points)
        if after is None:
            break
    if (got := len(target)) != seen:
        raise FinetunerServerError(f"the copy must have {seen} vectors. Got {got}. Nothing was changed. Try again.")
    kept = target.get([point.id for point in samples])
    for point in samples:
        if point.id not in kept or np.abs(kept[point.id] - point.vector).max() > TOLERANCE:
            raise FinetunerServerError(f"the copy must have the same vector of {point.id!r}. Got another. Try again.")
    return seen
