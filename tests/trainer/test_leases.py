"""Leases of runs: one contract on SQLite and PostgreSQL; trainers that race, die, or have lost a run."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from docarray import Document

from finetuner.artifacts.manifest import verify_artifact
from finetuner.config.run_config import RunConfig
from finetuner.database.engine import Database
from finetuner.exceptions import AlreadyExists, InvalidInput
from finetuner.executors.indexer.feedback.store import Chosen, Marks
from finetuner.executors.trainer import supervisor
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.leases import Lease, Leases
from finetuner.executors.trainer.lifeline import HeldRun
from finetuner.executors.trainer.loop.checkpoint import Checkpoint
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.executors.trainer.run_messages import Outcome, Paused
from finetuner.executors.trainer.run_store import RunStore
from tests.postgres import Postgres, Server, opened
from tests.waiting import wait_until

Ask = Callable[..., Any]
PAIRS = RunConfig("clip-mini", "pairs")
TRAINER = "import sys, time; from finetuner.executors.trainer.executor import Trainer; "
TRAINER += "Trainer(workspace_url=sys.argv[1], threads=1, trainer_name='killed', lease_seconds=3); time.sleep(600)"
HOLDER = """
import os, sys, time
from pathlib import Path
from finetuner.database.engine import Database
from finetuner.database.url import database_url
from finetuner.executors.trainer.leases import Leases
from finetuner.executors.trainer.lifeline import HeldRun
from finetuner.executors.trainer.run_folder import RunFolder
path, run, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
leases = Leases(Database.server(database_url(), 1), "")
held = HeldRun(lambda: leases.look(run, number), RunFolder(path), os.getpid(), 60)
with held.watched():
    folder = RunFolder(path, held.require)
    while True:
        folder.write("scores", {"at": time.time()})
        time.sleep(0.005)
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.seconds)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        found = Database.embedded_file(tmp_path / "runs.sqlite")
        yield found
        found.close()
        return
    with opened(request.getfixturevalue("postgres")) as found:
        yield found


def test_runs_and_their_holder_are_the_same_in_both_databases(database: Database) -> None:
    store, leases = RunStore(database), Leases(database, "one")
    run = store.create(RunConfig("clip-mini", "pairs", run_name="a"), {"train": "x"})
    with pytest.raises(AlreadyExists, match="Got 'a', which exists"):
        store.create(RunConfig("clip-mini", "pairs", run_name="a"), {})
    assert store.all() == [store.get("a", "default")] == [run]
    assert [each["name"] for each in store.experiments()] == ["default"]
    assert leases.take(run.artifact_id) == 1
    assert leases.take(run.artifact_id) is None
    (held,) = leases.mine()
    assert (held.status, held.details, store.count("STARTED")) == ("STARTED", "Training", 1)
    assert leases.look(run.artifact_id, 1).current
    assert 50 < leases.look(run.artifact_id, 1).left <= 60
    assert leases.move(run.artifact_id, "CREATED", "again")
    assert leases.mine() == []
    assert leases.take(run.artifact_id) == 2
    assert not leases.look(run.artifact_id, 1).current
    assert leases.move(run.artifact_id, "FAILED", "a NUL\0, as a message may have")
    assert store.get("a", "default").details.startswith("a NUL")
    assert not leases.move(run.artifact_id, "FINISHED", "")
    store.delete(run.artifact_id)
    assert (store.all(), leases.take(run.artifact_id)) == ([], None)
    assert store.create(RunConfig("clip-mini", "pairs", run_name="a"), {}).status == "CREATED"


def test_a_run_of_a_dead_trainer_is_taken_over_once(postgres: Postgres) -> None:
    with opened(postgres, 10) as database:
        store, dead = RunStore(database), Leases(database, "dead", 0.05)
        runs = [store.create(PAIRS, {}).artifact_id for _ in range(8)]
        assert [dead.take(run) for run in runs] == [1] * 8
        living = Leases(database, "living", 60)
        kept = store.create(PAIRS, {}).artifact_id
        assert living.take(kept) == 1
        others = [Leases(database, f"other {number}", 5) for number in range(6)]
        assert others[0].take_over() == [], "a worker has a moment to end"
        wait_until(lambda: dead.look(runs[-1], 1).left < -1.1, "the end of the leases and of the moment after it")
        with ThreadPoolExecutor(6) as threads:
            taken = [run.artifact_id for found in threads.map(Leases.take_over, others) for run in found]
        assert sorted(taken) == sorted(runs), "each once, and none of a trainer that lives"
        assert not dead.look(runs[0], 1).current
        assert not dead.move(runs[0], "FINISHED", "I am back")
        dead.renew()
        assert not dead.look(runs[0], 1).current
        assert dead.mine() == []
        assert store.count("STARTED") == 9


def test_a_canceled_run_is_not_taken_before_its_worker_has_stopped(postgres: Postgres) -> None:
    with opened(postgres) as database:
        store, one, other = RunStore(database), Leases(database, "one"), Leases(database, "other")
        run = store.create(PAIRS, {}).artifact_id
        one.take(run)
        store.move(run, "CANCELED", "by a caller of the other trainer", only_from=("STARTED",))
        store.move(run, "CREATED", "resumed", only_from=("CANCELED",))
        assert other.take(run) is None
        assert [each.status for each in one.mine()] == ["CREATED"]
        one.release(run)
        assert other.take(run) == 2


@contextmanager
def takers(seconds: float, *owners: str) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "tests.trainer.run_taker"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, owner, str(seconds)], **pipes) for owner in owners]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.process
def test_processes_that_race_take_each_run_once_and_a_kill_frees_its_runs(postgres: Postgres) -> None:
    with opened(postgres) as database:
        store = RunStore(database)
        runs = {store.create(PAIRS, {}).artifact_id for _ in range(40)}
        with takers(0.5, "one", "other") as processes:
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            taken = []
            for process in processes:
                assert process.stdout is not None
                taken.append(list(iter(process.stdout.readline, "end\n")))
            assert Counter(line.strip() for lines in taken for line in lines) == dict.fromkeys(runs, 1)
        heir = Leases(database, "heir", 5)
        found: list[str] = []

        def inherited() -> bool:
            found.extend(run.artifact_id for run in heir.take_over())
            return len(found) >= len(runs)

        wait_until(inherited, "the end of the dead ones' leases")
        assert sorted(found) == sorted(runs)


def test_a_process_that_has_lost_its_run_writes_nothing(tmp_path: Path) -> None:
    state = [Lease(current=True, left=60)]
    held = HeldRun(lambda: state[0], RunFolder(tmp_path), 0, 60)
    assert held.look()
    folder = RunFolder(tmp_path, held.require)
    Outcome("FINISHED", "").write(folder)
    checkpoint = Checkpoint(folder.checkpoint, 0, folder.may_write)
    checkpoint.write({"step": 1})
    for lost in (Lease(current=False, left=0), Lease(current=True, left=60)):  # it stays lost
        state[0] = lost
        held.look()
        for write in (lambda: Outcome("FAILED", "").write(folder), lambda: checkpoint.write({"step": 2})):
            with pytest.raises(SystemExit):
                write()
    assert Outcome.read(folder) == Outcome("FINISHED", "")
    assert (checkpoint.read() or {})["step"] == 1
    late = HeldRun(lambda: Lease(current=True, left=-1), folder, 0, 60)
    with pytest.raises(SystemExit), late.watched():
        pass


@pytest.mark.process
@pytest.mark.slow
def test_two_that_believe_they_own_a_run(postgres: Postgres, tmp_path: Path) -> None:
    """The one that is stopped meanwhile, as by a pause of its machine, ends when it wakes, and writes no more."""
    with opened(postgres) as database:
        store, one, other = RunStore(database), Leases(database, "one", 60), Leases(database, "other", 60)
        run = store.create(PAIRS, {}).artifact_id
        number = one.take(run)
        command = [sys.executable, "-c", HOLDER, str(tmp_path), run, str(number)]
        with subprocess.Popen(command) as process:
            folder = RunFolder(tmp_path)
            wait_until(lambda: folder.read("scores"), "the first write")
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: _stopped(process.pid), "the pause")
            one.seconds = -60
            one.renew()  # as if a minute had passed
            assert [each.artifact_id for each in other.take_over()] == [run]
            process.send_signal(signal.SIGCONT)
            assert process.wait(30) == -signal.SIGKILL
        assert other.look(run, 2).current
        assert other.move(run, "FINISHED", "Training finished")


def _stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("with_worker", [True, False])
def test_a_killed_trainers_run_is_finished_by_another_one(
    with_worker: bool,
    postgres: Postgres,
    tmp_path: Path,
    trainer_at: Callable[..., Any],
    push: Callable[..., Any],
    pairs: list[Document],
    ask: Ask,
    wait_for_end: Callable[..., dict[str, Any]],
    workers_in: Callable[[Path], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = {"model": "clip-mini", "train_data": "pairs", "device": "cpu", "batch_size": 8, "epochs": 30}
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 3600)
    with trainer_at(tmp_path, trainer_name="asked", gpus=0) as trainer:
        push(trainer, "pairs", pairs)
        run = ask(trainer.fit, config={**config, "run_name": "run"})
        with pytest.raises(InvalidInput, match="trainer_name must be of one trainer alone. Got 'asked'"):
            Trainer(workspace_url=str(tmp_path), trainer_name="asked", gpus=0)
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.1)
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", TRAINER, str(tmp_path)])
    try:
        with opened(postgres) as database:
            curve = tmp_path / "runs" / run["artifact_id"] / "curve.jsonl"
            wait_until(curve.exists, "the first step")
            assert [each.status for each in Leases(database, "killed").mine()] == ["STARTED"]
            process.kill()
            process.wait()
            for worker in workers_in(tmp_path) if with_worker else []:
                worker.kill()
            with trainer_at(tmp_path, trainer_name="heir", lease_seconds=3, gpus=0) as heir:
                ended = wait_for_end(heir, "run")
                assert (ended["status"], ended["details"]) == ("FINISHED", "Training finished")
                verify_artifact(tmp_path / "artifacts" / run["artifact_id"])
                assert ask(heir.logs_of_run, name="run")["text"].count("Starting run") == 2
                assert workers_in(tmp_path) == []
            assert RunStore(database).count("STARTED") == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.process
def test_a_worker_without_a_trainer_pauses_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signals: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, number: signals.append(number))
    until = time.monotonic() + 0.3
    held = HeldRun(lambda: Lease(current=True, left=until - time.monotonic()), RunFolder(tmp_path), 0, 1.0)
    with held.watched():
        wait_until(lambda: signals, "the signal")
    assert signals[0] == signal.SIGTERM
    assert Paused.read(RunFolder(tmp_path)) == Paused("nobody renewed the lease")


@pytest.mark.process
@pytest.mark.slow
def test_sigkills_of_writer_and_server_lose_no_acknowledged_run_or_mark(
    postgres: Postgres, postgres_server: Server
) -> None:
    moments, acknowledged, first = random.Random(24), list[str](), 0
    for kill in range(30):
        command = [sys.executable, "-m", "tests.trainer.record_writer", str(first)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(moments.randrange(1, 40))]
        if kill % 2:
            postgres_server.kill()
            postgres_server.start()
            lines += [process.stdout.readline() for _ in range(5)]  # it goes on by itself
        process.kill()
        lines += [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        process.wait()
        process.stdout.close()
        acknowledged += [line.strip() for line in lines]
        first = int(acknowledged[-1][1:]) + 1
    with opened(postgres) as database:
        names = Counter(run.name for run in RunStore(database).all())
        marks, after, found = Marks(database), 0, Counter[str]()
        while after is not None:
            page = marks.page(Chosen(), after, limit=1000)
            found.update(mark["id"] for mark in page["marks"])
            after = page["next"]
    assert set(names.values()) == set(found.values()) == {1}
    assert {*names, *found} >= set(acknowledged)
    assert len(acknowledged) > 300
