"""SIGKILL at random moments: what was acknowledged is there, and a re-index goes on where it was."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from finetuner.artifacts.registry import LIVE
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.storage.packing import unpack
from finetuner.executors.indexer.upkeep.live import Live
from finetuner.workspace.folder import Workspace

from .hashed_encoder import encoded_text, vector_of_text
from .kill_reindex import FINISHED
from .kill_writer import batch_of, gone_after, text_of

pytestmark = pytest.mark.process


def run_and_kill(command: list[str], due: Callable[[str], bool], seconds: float = 0) -> list[str]:
    """Start a process, kill it some time after a line that is due, and return its whole lines."""
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if due(line):
            break
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    printed += process.stdout.read()
    assert process.wait() == -signal.SIGKILL, printed
    process.stdout.close()
    return printed.split("\n")[:-1]


def check_acknowledged(folder: Path, lives: list[list[str]]) -> None:
    """Compare a reopened index with what its writer printed in all its lives."""
    expected: dict[str, tuple[str, int] | None] = {}
    for lines in lives:
        for line in lines:
            number = int(line[1:])
            if line[0] == "+":
                expected.update(dict.fromkeys(batch_of(number), (("old", "new")[number % 2], number)))
            else:
                expected.update(dict.fromkeys(gone_after(number)))
        # What was under way when the signal came may be there or not.
        for document_id in [*gone_after(number), *batch_of(number + 1)]:
            expected.pop(document_id, None)
    index = Index(folder, min_free_mb=0)
    held = {artifact: collection.get(list(expected)) for artifact, collection in index.collections.all().items()}
    for document_id, state in expected.items():
        packed = index.documents.get([document_id], content=True).get(document_id)
        if state is None:
            assert packed is None, f"{document_id} was deleted"
            assert not any(document_id in vectors for vectors in held.values())
        else:
            artifact, number = state
            text = text_of(document_id, number)
            assert packed is not None, f"{document_id} is lost"
            assert unpack(packed).text == text
            np.testing.assert_allclose(held[artifact][document_id], vector_of_text(artifact, text), atol=1e-6)
    for artifact, collection in index.collections.all().items():
        after, seen = None, 0
        while seen == 0 or after is not None:
            points, after = collection.scroll(after, 1000, vectors=False)
            seen += 1
            ids = {point.id for point in points}
            assert index.documents.get(sorted(ids), content=False).keys() == ids, f"{artifact}: a vector alone"
    index.close()


@pytest.mark.parametrize("kills", [5, pytest.param(30, marks=pytest.mark.slow)])
def test_sigkill_loses_nothing_acknowledged(tmp_path: Path, kills: int) -> None:
    moments, lives, first = random.Random(kills), [], 1
    for _ in range(kills):
        command = ["tests.indexer.kill_writer", str(tmp_path), str(first)]
        lives.append(run_and_kill(command, lambda _: True, moments.uniform(0, 1.5)))
        check_acknowledged(tmp_path, lives)
        first = int(lives[-1][-1][1:]) + 2  # what was under way is not written again, so that it can be told apart
    for collection in tmp_path.glob("*/collection.json"):
        assert len([*collection.parent.glob("shard-*")]) == 1, "copies for a graph were left behind"


def test_sigkill_in_the_middle_of_a_reindex(tmp_path: Path) -> None:
    place, count = Workspace(tmp_path), 1000
    index, live = Index(place.index), Live(place)
    index.upsert([encoded_text(f"d{i}", f"d{i}", "old") for i in range(count)])
    live.search_with("old")
    place.aliases.set(LIVE, {"artifact": "new", "promoted_at": 1.0})
    index.close()

    command, done = ["tests.indexer.kill_reindex", str(tmp_path)], [0]
    for _ in range(5):
        goal = done[-1] + 32
        lines = run_and_kill(command, lambda line, goal=goal: line != "open\n" and int(line.split()[1]) >= goal)
        assert {line.split()[0] for line in lines[1:]} <= {"old"}, "searches are answered by the old one until the end"
        done += [int(line.split()[1]) for line in lines[1:]]
        assert live.searched == "old"
    assert done == sorted(done), "what was done stays done"
    assert 0 < done[-1] < count

    finished = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        check=True,
    )
    answered = [line.split()[0] for line in finished.stdout.splitlines()[1:]]
    assert answered == sorted(answered, reverse=True)
    assert (answered[-1], live.searched) == ("new", "new")
    job = live.job()
    assert job is not None
    assert job.state == FINISHED
    index = Index(place.index)
    assert index.counts() == {"new": count, "old": count}
    for artifact in ("old", "new"):
        vectors = index.collection(artifact).get([f"d{i}" for i in range(count)])
        for i in range(count):
            np.testing.assert_allclose(vectors[f"d{i}"], vector_of_text(artifact, f"d{i}"), atol=1e-6)
    index.close()
