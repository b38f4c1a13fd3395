"""A process that forks others, which then are what they would have been as new ones."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from finetuner.contract.environment import FLOW_ID, PREPARED
from finetuner.flow import prepared
from finetuner.flow.processes import command_of
from tests.waiting import wait_until

MODULE = "tests.client.flow.prepared_module"
BY_FORK_SERVER = """
import multiprocessing, sys, time
from finetuner.flow.prepared import serve
multiprocessing.set_start_method("forkserver")
multiprocessing.Process(target=serve, args=(sys.argv[1],)).start()
time.sleep(600)
"""
SERVER = f"""
import sys
from finetuner.flow import prepared
prepared.QUIET_SECONDS = float(sys.argv[2])
prepared.serve(sys.argv[1], {{"{MODULE}": ["no_such_module", "wave"], "other.module": ["sndhdr"]}})
"""


@pytest.fixture
def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[subprocess.Popen[bytes]]:
    """A prepared process, as a Flow's is but for its imports. They wait for a request, or for seconds."""
    path = tmp_path / "private" / "prepared"
    path.parent.mkdir(mode=0o700)
    padding = "x" * 600  # a Flow's has the search path of modules there
    quiet = str(getattr(request, "param", "inf"))
    command = [sys.executable, "-W", "ignore", "-c", SERVER, path, quiet, padding]
    with subprocess.Popen(command, env=os.environ | {FLOW_ID: "of it"}) as process:
        try:
            wait_until(path.exists, "the socket")
            monkeypatch.setenv(PREPARED, str(path))
            yield process
        finally:
            process.terminate()


def started(folder: Path, *arguments: str) -> int | None:
    with open(folder / "output", "ab") as output:
        return prepared.start(MODULE, arguments, output, os.environ | {"GIVEN": "a value"})


def written(folder: Path, marker: str = "end") -> str:
    output = folder / "output"
    wait_until(lambda: marker in output.read_text(), f"{marker!r} in the output")
    return output.read_text()


@pytest.mark.usefixtures("server")
def test_a_child_is_what_a_new_process_would_be(tmp_path: Path) -> None:
    pid = started(tmp_path, "first", "the second")
    found = json.loads(written(tmp_path).splitlines()[0])
    assert found == {
        "name": "__main__",
        "arguments": ["first", "the second"],
        "given": "a value",
        "folder": str(Path.cwd()),
        "session": pid,
        "pid": pid,
        "stdin": "",
        "method": None,
        "signals": [True, True],
    }
    assert "at exit" in written(tmp_path, "at exit")


@pytest.mark.usefixtures("server")
def test_what_a_module_needs_is_imported_before_its_first_fork(tmp_path: Path) -> None:
    started(tmp_path, "imported", "wave", "sndhdr")
    assert "imported: ['wave']" in written(tmp_path)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("server", [0], indirect=True)
def test_without_requests_all_is_imported_after_a_while(tmp_path: Path) -> None:
    def imported() -> str:
        (tmp_path / "output").unlink(missing_ok=True)
        started(tmp_path, "imported", "wave", "sndhdr")
        return written(tmp_path)

    wait_until(lambda: "imported: ['wave', 'sndhdr']" in imported(), "the imports of the other module")


@pytest.mark.usefixtures("server")
def test_a_child_shows_its_command_and_keeps_the_mark_of_its_flow(tmp_path: Path) -> None:
    pid = started(tmp_path, "stay")
    try:
        process = psutil.Process(pid)
        assert command_of(process) == f"{sys.executable} -m {MODULE} stay"
        assert process.environ()[FLOW_ID] == "of it"
    finally:
        process.kill()
    wait_until(lambda: not process.is_running(), "the end of the child, which somebody must reap")


@pytest.mark.usefixtures("server")
def test_a_command_that_finds_no_room_starts_as_a_new_process(tmp_path: Path) -> None:
    long = "a" * 2000
    pid = started(tmp_path, long, "stay")
    try:
        assert "stay" in written(tmp_path, "stay")
        assert psutil.Process(pid).cmdline()[-2:] == [long, "stay"]
    finally:
        psutil.Process(pid).kill()


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(("argument", "expected"), [("fail", "ValueError: as asked"), ("refuse", "refused, as asked")])
def test_an_end_with_an_error_is_in_the_output(tmp_path: Path, argument: str, expected: str) -> None:
    assert started(tmp_path, argument) is not None
    assert expected in written(tmp_path, expected)


def test_a_child_outlives_the_prepared_process(tmp_path: Path, server: subprocess.Popen[bytes]) -> None:
    process = psutil.Process(started(tmp_path, "stay"))
    server.kill()
    server.wait()
    assert process.is_running()
    process.kill()
    assert started(tmp_path) is None  # the caller starts a new process


def test_it_leaves_no_file(server: subprocess.Popen[bytes]) -> None:
    path = Path(os.environ[PREPARED])
    server.terminate()
    server.wait()
    assert not path.parent.exists()


def test_it_ends_when_the_process_that_started_it_by_a_fork_server_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "private" / "prepared"
    path.parent.mkdir()
    with subprocess.Popen([sys.executable, "-c", BY_FORK_SERVER, path]) as process:
        wait_until(path.exists, "the socket")
        process.kill()
    wait_until(lambda: not path.parent.exists(), "the end of the prepared process")


def test_rubbish_does_not_end_it(tmp_path: Path, server: subprocess.Popen[bytes]) -> None:
    for rubbish in (b"", b"{", b"[]", b"{}", b'{"command": 1}', os.urandom(1000)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(os.environ[PREPARED])
            connection.send(rubbish)
    assert started(tmp_path) is not None
    assert server.poll() is None


@pytest.mark.usefixtures("server")
def test_a_caller_that_gave_up_starts_nothing(tmp_path: Path) -> None:
    request = {"command": ["-m", MODULE], "environment": {}, "folder": "/", "shown": False}
    output = open(tmp_path / "output", "ab")  # noqa: SIM115
    with output, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(os.environ[PREPARED])
        socket.send_fds(connection, [json.dumps(request).encode()], [output.fileno()])
        child = psutil.Process(int(connection.recv(64)))
    wait_until(lambda: not child.is_running(), "the end of the child")
    assert (tmp_path / "output").read_text() == ""


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "ANSWER_SECONDS", 0.1)
    monkeypatch.setenv(PREPARED, str(tmp_path / "none"))
    assert started(tmp_path) is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        monkeypatch.setenv(PREPARED, str(tmp_path / "silent"))
        assert started(tmp_path) is None
    monkeypatch.delenv(PREPARED)
    assert started(tmp_path) is None
    done = prepared.run(MODULE, ["refuse"], os.environ, 100)  # as a new process
    assert (done.returncode, done.stdout) == (1, "refused, as asked\n")


@pytest.mark.usefixtures("server")
def test_several_at_once(tmp_path: Path) -> None:
    pids: list[int | None] = []
    threads = [threading.Thread(target=lambda: pids.append(started(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*pids} - {None}) == 8
    wait_until(lambda: (tmp_path / "output").read_text().count("at exit") == 8, "the end of all")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("argument", "code", "last"), [("fail", 1, "ValueError: as asked"), ("refuse", 1, "refused, as asked")]
)
def test_a_process_is_run_to_its_end(argument: str, code: int, last: str) -> None:
    done = prepared.run(MODULE, [argument], os.environ, 100)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (code, last)
    well = prepared.run(MODULE, [], os.environ | {"GIVEN": ""}, 100)
    assert (well.returncode, well.stdout.splitlines()[-1]) == (0, "at exit")


@pytest.mark.usefixtures("server")
def test_a_process_that_does_not_end_or_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        prepared.run(MODULE, ["stay"], os.environ, 0.5)
    killed = prepared.run(MODULE, ["kill"], os.environ, 100)
    assert killed.returncode == -9
