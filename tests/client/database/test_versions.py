"""Tables of another version, of another workspace, and servers that do not let us in; on a real PostgreSQL."""

from __future__ import annotations

import fcntl
import logging
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from finetuner.cli.main import app
from finetuner.config.run_config import RunConfig
from finetuner.contract.marks import Mark
from finetuner.contract.wire import AWAITS
from finetuner.database.shared import foreign_workspace, shared_database
from finetuner.database.tables import METADATA
from finetuner.database.tokens import token_store, tokens_in_use
from finetuner.database.versions import HEAD, VERSION_TABLE, check_version, state_of
from finetuner.doctor import database_check
from finetuner.doctor.finding import Status
from finetuner.exceptions import DatabaseUnreachable, InvalidInput
from finetuner.executors.indexer.feedback.store import Chosen, Marked, Marks
from finetuner.executors.trainer.run_store import RunStore
from finetuner.workspace.folder import ID_FILE
from finetuner.workspace.tokens import TokenFile, digest_of
from tests.postgres import GUARDED, Postgres, Server, opened


def doctor(root: Path) -> tuple[Status, str]:
    first, *_ = database_check.database(root)
    return first.status, f"{first.found} -> {first.advice}"


def test_the_migrations_make_the_tables_and_name_their_version(postgres: Postgres) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    from finetuner.database.versions import MIGRATIONS

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD
    with opened(postgres) as database, database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []


def test_an_empty_database_is_upgraded_by_the_command_alone(
    postgres: Postgres, postgres_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = CliRunner()
    with postgres_server.new_database("template0") as empty, opened(empty) as database:
        monkeypatch.setenv("FINETUNER_DATABASE", empty.text)
        assert doctor(tmp_path)[0] == Status.FAILED
        assert "then run `finetuner db upgrade`" in doctor(tmp_path)[1]
        for refused in (lambda: shared_database(tmp_path), lambda: check_version(database)):
            with pytest.raises(InvalidInput, match="version 0001.*Got an empty database. Run `finetuner db upgrade`"):
                refused()
        assert isinstance(command.invoke(app, ["db", "check"]).exception, InvalidInput)
        assert command.invoke(app, ["db", "upgrade"]).output.endswith("version 0001, before: empty\n")
        assert command.invoke(app, ["db", "upgrade"]).output.endswith("version 0001, as before\n")
        assert "PostgreSQL 1" in command.invoke(app, ["db", "check"]).output
        assert doctor(tmp_path)[0] == Status.OK
        assert abs(state_of(database).ahead) < 2
    monkeypatch.delenv("FINETUNER_DATABASE")
    assert isinstance(command.invoke(app, ["db", "check"]).exception, InvalidInput)
    assert doctor(tmp_path)[0] == Status.OK


def test_tables_of_a_later_version_are_refused_and_left_alone(
    postgres: Postgres, postgres_server: Server, tmp_path: Path
) -> None:
    name = postgres.url.database
    postgres_server.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0007'", database=name)
    for command in ("check", "upgrade"):
        error = CliRunner().invoke(app, ["db", command]).exception
        assert isinstance(error, InvalidInput)
        assert "must have version 0001" in str(error)
        assert "Got '0007', of a later one. Install that version" in str(error)
    with pytest.raises(InvalidInput, match="'0007'"):
        shared_database(tmp_path)
    assert "Install the later version" in doctor(tmp_path)[1]


def test_a_database_belongs_to_one_workspace(postgres: Postgres, tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for _ in range(2):
        first = shared_database(mine)
        assert first is not None
        assert foreign_workspace(first, mine) == ""
        first.close()
    assert (mine / ID_FILE).is_file()
    with pytest.raises(InvalidInput, match=r"must be that of the workspace .*other\. Got the one of another"):
        shared_database(other)
    assert not (other / ID_FILE).exists()
    assert "Mount the workspace" in doctor(other)[1]


def test_files_are_copied_once_and_stay(postgres: Postgres, tmp_path: Path) -> None:
    runs = RunStore(tmp_path / "runs.sqlite")
    first = runs.create(RunConfig("clip-mini", "pairs", run_name="first"), {"train": "x"})
    runs.move(first.artifact_id, "STARTED", "Training", only_from=("CREATED",))
    second = runs.create(RunConfig("clip-mini", "pairs", experiment_name="other"), {})
    runs.close()
    marks = Marks(tmp_path / "feedback" / "marks.sqlite")
    marks.add([Marked(Mark(f"m{number}", ("a\0", "b"), ("b",)), "a query\0") for number in range(12)], "ann")
    before = marks.page(Chosen())
    marks.close()
    secret = TokenFile(tmp_path).create("ann", "admin")
    command = ["db", "copy", "--workspace", str(tmp_path)]
    with open(tmp_path / "trainer.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "which a trainer uses. Stop it" in str(CliRunner().invoke(app, command).exception)
    for count in (2, 0):
        found = CliRunner().invoke(app, command)
        output = found.output
        assert found.exception is None, found.exception
        assert f"runs: {count} copied\n" in output
        assert f"marks: {6 * count} copied\n" in output
    with opened(postgres) as database:
        copied = RunStore(database)
        assert copied.get("first", "default") == replace(
            first, status="CREATED", details=f"{AWAITS} again", started_at=copied.all()[0].started_at
        )
        assert copied.all("other") == [second]
        assert [each["name"] for each in copied.experiments()] == ["default", "other"]
        assert Marks(database).page(Chosen()) == before
    assert tokens_in_use(tmp_path)
    with closing(token_store(tmp_path)) as store:
        assert [token.digest for token in store.read()] == [digest_of(secret.encode())]
    error = CliRunner().invoke(app, ["db", "copy", "--workspace", str(tmp_path / "none")]).exception
    assert isinstance(error, InvalidInput)


@pytest.mark.parametrize(
    ("password", "database", "got"),
    [
        ("right%2Fone%40", "ours", ""),
        ("wrong-one", "ours", "password authentication failed"),
        ("right%2Fone%40", "nowhere", 'database "nowhere" does not exist'),
    ],
)
def test_a_server_that_does_not_let_us_in_is_named_without_the_password(
    postgres: Postgres, postgres_server: Server, password: str, database: str, got: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    text = f"postgresql://{GUARDED}:{password}@/{database}?host={postgres_server.folder}"
    monkeypatch.setenv("FINETUNER_DATABASE", text)
    if not got:
        with opened(Postgres(text)) as entered, entered.connect():
            return
    with pytest.raises(DatabaseUnreachable, match=got) as refused:
        shared_database(tmp_path)
    assert refused.value.status == 503
    seen = f"{refused.getrepr(style='short')}{caplog.text}{doctor(tmp_path)}"
    assert got in seen
    assert password not in seen


def test_a_host_without_a_server_is_named(unused_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNER_DATABASE", f"postgresql://ann:s3cret@127.0.0.1:{unused_port}/db")
    status, found = doctor(tmp_path)
    assert status == Status.FAILED
    assert "Connection refused" in found
    assert "s3cret" not in found
