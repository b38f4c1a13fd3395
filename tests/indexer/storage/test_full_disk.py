"""A disk that is really full: refused before anything breaks, and nothing acknowledged is lost where it does."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from finetuner.executors.indexer.engines import edge
from finetuner.executors.indexer.engines.engine import SearchOptions
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.upkeep import graphs
from finetuner.executors.indexer.upkeep.graphs import Graphs
from finetuner.executors.indexer.upkeep.repair import repair
from finetuner.executors.indexer.upkeep.verify import verify_index
from tests.indexer.hashed_encoder import encoded_text
from tests.indexer.test_index_kill import check_acknowledged, run_and_kill
from tests.waiting import wait_until

MIB = 2**20
WRITER = "tests.indexer.full_disk_writer"


class Disk:
    """A file system of its own with 1 GiB; where none may be mounted, a bound on the size of files stands for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "disk"
        self.folder.mkdir()
        self._ballast = self.folder / "ballast"
        image = folder / "image"
        with image.open("wb") as file:
            file.truncate(1024 * MIB)
        # A file system in memory would not do: there, reading what was never written takes room.
        commands = [["mkfs.ext4", "-q", "-m", "0", image], ["mount", "-o", "loop", image, self.folder]]
        try:
            for command in commands:
                subprocess.run(command, check=True, capture_output=True)
            self.mounted = True
        except (OSError, subprocess.CalledProcessError) as error:
            warnings.warn(f"a bound on files stands for a full disk: {error}", stacklevel=1)
            self.mounted = False

    def leave(self, free: int) -> None:
        """Fill the disk until so many bytes are free."""
        if self.mounted:
            with self._ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self.folder).free - free)

    def make_room(self) -> None:
        """Take out what filled it."""
        self._ballast.unlink(missing_ok=True)

    def bound(self, free: int) -> Callable[[], None] | None:
        """Return what bounds a process to files that are so many bytes larger, where nothing is mounted."""
        largest = sum(file.stat().st_size for file in self.folder.rglob("documents.sqlite*")) + free
        return None if self.mounted else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", self.folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    opened = Disk(tmp_path)
    yield opened
    opened.close()


@pytest.mark.process
def test_writes_are_refused_before_anything_breaks(disk: Disk) -> None:
    if not disk.mounted:
        pytest.skip("what is free on this disk is not ours to say; test_index_endpoints.py stubs it")
    folder, room = disk.folder / "index", disk.folder / "room"
    room.write_bytes(bytes(4 * MIB))
    disk.leave(16 * MIB)
    least = shutil.disk_usage(disk.folder).free // MIB - 8
    writer = subprocess.Popen(
        [sys.executable, "-m", WRITER, str(folder), str(least), "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    lines = [""]
    while not lines[-1].startswith("?"):
        lines.append(writer.stdout.readline())
        assert lines[-1], "the writer has died"
    assert lines[1] == "+0\n"
    assert lines[-2].startswith(f"!InsufficientStorage: the disk of the index must have {least} MiB free for a write.")
    assert "The request changed nothing. Make room" in lines[-2]
    assert "0-3" in lines[-1], "searches go on"
    room.unlink()
    after, _ = writer.communicate("\n", timeout=250)
    assert writer.returncode == 0
    assert after.startswith("+"), "writes go on"
    stored = [line.strip() for line in [*lines, *after.splitlines()] if line.startswith("+")]
    disk.make_room()
    check_acknowledged(folder, [stored])
    index = Index(folder, min_free_mb=0)
    assert verify_index(index)["documents"] == len(stored) * 19 + 3
    index.close()


@pytest.mark.process
@pytest.mark.parametrize(
    "free", [pytest.param(100_000, marks=pytest.mark.slow), 1_000_000, pytest.param(3_000_000, marks=pytest.mark.slow)]
)
def test_a_disk_that_is_full_in_the_middle_loses_nothing_acknowledged(disk: Disk, free: int) -> None:
    folder = disk.folder / "index"
    command = [WRITER, str(folder), "0"]
    lives = [run_and_kill([*command, "0"], lambda line: line == "+3\n")]
    disk.leave(free)
    full = subprocess.run(
        [sys.executable, "-m", *command, str(next_batch(lives))],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=disk.bound(free),
    )
    died = full.returncode == -signal.SIGBUS
    assert died or "!FinetunerServerError" in full.stdout, f"the disk was never full: {full.stderr}"
    lives.append([line for line in full.stdout.splitlines() if line.startswith("+")])
    disk.make_room()
    lives.append(run_and_kill([*command, str(next_batch(lives))], lambda line: True))
    check_acknowledged(folder, [lines for lines in lives if lines])
    index = Index(folder, min_free_mb=0)
    verify_index(index)
    assert sum(sum(repair(index, artifact)) for artifact in index.counts()) == 0, "no vector is damaged"
    verify_index(index)
    index.close()


def next_batch(lives: list[list[str]]) -> int:
    """Return the number after that of the batch that was under way, which may be there or not."""
    return next(int(lines[-1][1:]) + 2 for lines in reversed(lives) if lines)


@pytest.mark.process
def test_a_graph_waits_for_room(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (edge, graphs):
        monkeypatch.setattr(module, "EXACT_BELOW", 300)
    for name in ("LOOK_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(graphs, name, 0.01)
    index, said = Index(disk.folder / "index", min_free_mb=0), list[str]()
    index.upsert([encoded_text(f"d{i}", f"d{i}", "old") for i in range(400)])
    disk.leave(100 * MIB)
    spare = MIB if disk.mounted else shutil.disk_usage(disk.folder).free
    builder = Graphs(index.collections, said.append, spare)
    wait_until(lambda: len(said) > 1, "two sentences in the log")
    assert "the graph of 'old' is not built: the disk must have" in said[0]
    assert "Searches work without the graph. Make room" in builder.problems["old"]
    assert len(list(disk.folder.glob("index/*/shard-*"))) == 1, "no copy is left behind"
    (hits,) = index.search([encoded_text("q", "d7", "old")], SearchOptions(1))
    assert isinstance(hits, list)
    assert hits[0].id == "d7"
    disk.make_room()
    if disk.mounted:
        wait_until(lambda: not builder.problems, "the graph")
        assert index.collection("old").graph().indexed == 400
    builder.close()
    index.close()
