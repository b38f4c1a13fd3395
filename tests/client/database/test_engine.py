"""A database server that goes away and comes back: clear errors, a bounded pool, and nothing acknowledged is lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from finetuner.config.run_config import RunConfig
from finetuner.database import engine
from finetuner.exceptions import DatabaseUnreachable
from finetuner.executors.trainer.run_store import RunStore
from tests.postgres import Postgres, Server, opened
from tests.waiting import wait_until


def test_over_a_restart_calls_get_an_error_and_go_on(postgres: Postgres, postgres_server: Server) -> None:
    with opened(postgres) as database:
        store, stored = RunStore(database), list[str]()
        stored.append(store.create(RunConfig("clip-mini", "pairs"), {}).name)
        for end in (postgres_server.stop, postgres_server.kill):
            end()
            try:
                with pytest.raises(DatabaseUnreachable, match="database must answer. Got: .*Nothing of the request is"):
                    store.create(RunConfig("clip-mini", "pairs"), {})
                started = time.monotonic()
                for _ in range(100):
                    with pytest.raises(DatabaseUnreachable):
                        store.all()
                assert time.monotonic() - started < engine.CONNECT_SECONDS, "calls do not queue up"
            finally:
                postgres_server.start()

            def written() -> bool:
                try:
                    stored.append(store.create(RunConfig("clip-mini", "pairs"), {}).name)
                except DatabaseUnreachable:
                    return False
                return True

            wait_until(written, "the database's answer")
            assert [run.name for run in store.all()] == stored


def test_the_pool_is_bounded_and_a_call_waits_for_its_turn(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(postgres, 2) as database:

        def busy(_: int) -> int:
            with database.connect() as connection:
                connection.execute(sa.text("SELECT pg_sleep(0.02)"))
                mine = sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
                return int(connection.execute(mine).scalar_one())

        with ThreadPoolExecutor(8) as threads:
            assert max(threads.map(busy, range(16))) <= 2
    monkeypatch.setattr(engine, "POOL_SECONDS", 0.2)
    with opened(postgres, 2) as database:
        with (
            database.connect(),
            database.connect(),
            pytest.raises(DatabaseUnreachable, match="QueuePool limit"),
            database.connect(),
        ):
            pass
        with database.connect():
            pass


def test_an_embedded_file_stays_as_it_was(tmp_path: Path) -> None:
    """A file of an earlier version opens, and gets the tables that it lacks."""
    import sqlite3

    with sqlite3.connect(tmp_path / "runs.sqlite") as old:
        old.executescript(
            "CREATE TABLE experiments (name VARCHAR(128) NOT NULL, created_at FLOAT NOT NULL, PRIMARY KEY (name));"
            "CREATE TABLE runs (artifact_id VARCHAR(24) NOT NULL, experiment VARCHAR(128) NOT NULL, "
            "name VARCHAR(128) NOT NULL, config TEXT NOT NULL, data TEXT NOT NULL, status VARCHAR(16) NOT NULL, "
            "details TEXT NOT NULL, created_at FLOAT NOT NULL, started_at FLOAT, ended_at FLOAT, "
            "PRIMARY KEY (artifact_id), UNIQUE (experiment, name));"
            "INSERT INTO experiments VALUES ('default', 1.0);"
        )
    store = RunStore(tmp_path / "runs.sqlite")
    run = store.create(RunConfig("clip-mini", "pairs"), {})
    assert store.all() == [run]
    assert [entry["created_at"] for entry in store.experiments()] == [1.0]
    store.close()
