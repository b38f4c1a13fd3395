"""`finetuner doctor`: what each check finds on machines that are as they should be, and on some that are not."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from finetuner.cli.main import app
from finetuner.contract.environment import FLOWS
from finetuner.doctor import doctor, flow_check, machine_check, package_check, workspace_check
from finetuner.doctor.finding import GIB, Finding, Status, ok, warning
from finetuner.exceptions import InvalidInput
from finetuner.transport import probes as flow_answers
from finetuner.workspace.tokens import TokenFile

FINETUNER = Path(sys.executable).with_name("finetuner")
NAMES = ["Python", "packages", "GPU", "memory", "disk", "temporary", "grpc port", "http port", "workspace", "clock"]
NAMES += ["weights", "Flow"]
STRANGER = 10001  # the image's user
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def no_flow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FINETUNER_")] + ["JINA_AUTH_TOKEN"]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what accepts and says nothing be waited for shortly."""
    monkeypatch.setattr(flow_answers, "SECONDS", 0.2)


def one(findings: Iterable[Finding], name: str = "") -> Finding:
    (found,) = [finding for finding in findings if finding.name == name or not name]
    return found


# the report


def test_the_command_reports_on_a_client_and_leaves_nothing(tmp_path: Path) -> None:
    client = tmp_path / "client"
    client.mkdir()
    (client / "torch.py").write_text("raise ModuleNotFoundError('No module named torch', name='torch')")
    folder = tmp_path / "folder"
    folder.mkdir()
    done = subprocess.run(
        [str(FINETUNER), "doctor", "--json", "--grpc-port", "0", "--http-port", "0"],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(client)},
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert [check["name"] for check in report["checks"]] == NAMES
    assert all(set(check) == {"name", "status", "found", "advice"} for check in report["checks"])
    assert all(bool(check["advice"]) is (check["status"] != "ok") for check in report["checks"])
    found = {check["name"]: check for check in report["checks"]}
    assert found["workspace"]["found"] == f"{folder / 'workspace'} is not there, and can be made"
    assert "torch is not installed" in found["GPU"]["found"]
    assert found["Flow"]["found"].startswith("not checked: no Flow was named")
    assert list(folder.iterdir()) == []


def test_the_command_fails_where_a_check_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None, unused_port: int
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    file = tmp_path / "workspace"
    file.write_text("a file")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ["--workspace", str(file), "--http-port", str(port), "--grpc-port", str(unused_port)]
        done = CliRunner().invoke(app, ["doctor", *options])
    assert done.exit_code == 1, done.output
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith(f"ok       grpc port      {unused_port} is free") for line in lines)
    assert any(line.startswith(f"failed   http port      {port} cannot be used") for line in lines)
    assert any(line.startswith("failed   workspace ") for line in lines)
    assert lines[-1].endswith("2 failed")
    assert [path.name for path in tmp_path.iterdir()] == ["workspace"]


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks() -> Iterator[Finding]:
        yield ok("GPU", "one")
        raise RuntimeError("the driver\nhangs")

    def refuses(*_: object) -> Iterator[Finding]:
        raise InvalidInput("one sentence")

    monkeypatch.setattr(machine_check, "graphics", breaks)
    monkeypatch.setattr(workspace_check, "clock", refuses)
    found = list(doctor.examine(tmp_path, grpc_port=0, http_port=0))
    gpu = [finding for finding in found if finding.name == "GPU"]
    assert [finding.status for finding in gpu] == [Status.OK, Status.FAILED]
    assert gpu[1].found == "RuntimeError: the driver hangs"
    assert one(found, "clock") == Finding("clock", Status.FAILED, "one sentence", "Correct what the message names.")
    assert [finding.name for finding in found if finding.name != "GPU"] == [name for name in NAMES if name != "GPU"]


def test_warnings_alone_are_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.report([ok("clock", "now"), warning("GPU", "[none]", "Buy one.")])
    printed = capsys.readouterr().out
    assert "-> Buy one." in printed
    assert "[none]" in printed, "no markup"
    assert "1 ok, 1 warning, 0 failed" in printed


def test_what_libraries_print_does_not_reach_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    def chatty() -> Iterator[Finding]:
        print("Welcome!")
        yield ok("clock", "now")

    assert doctor.report(chatty(), as_json=True)
    assert json.loads(capsys.readouterr().out)["checks"][0]["status"] == "ok"


# packages


def test_a_package_of_another_version_is_named_with_its_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = importlib.metadata.version
    monkeypatch.setattr(
        package_check.metadata, "version", lambda name: {"setuptools": "82.0"}.get(name) or installed(name)
    )
    found = one(package_check.packages(), "packages")
    assert found == Finding(
        "packages",
        Status.FAILED,
        "setuptools 82.0, not <81",
        "Install what is pinned: pip install 'setuptools<81'",
    )


def without(*names: str) -> Callable[[str], str]:
    installed = importlib.metadata.version

    def version(name: str) -> str:
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    return version


def test_what_the_flow_needs_is_missed_where_there_is_a_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_check.metadata, "version", without("peft", "qdrant-edge-py"))
    found = one(package_check.packages(), "packages")
    assert (found.status, found.found) == (
        Status.WARNING,
        "what `finetuner up` needs is not there: peft>=0.17, qdrant-edge-py==0.9.0",
    )
    monkeypatch.setenv(FLOWS, str(tmp_path))
    assert one(package_check.packages(), "packages").status is Status.OK, "a client needs none of it"
    monkeypatch.setattr(package_check.metadata, "version", without("jina"))
    assert "jina is not installed" in one(package_check.packages(), "packages").found


def test_without_an_installed_distribution_pyproject_says_what_is_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = package_check._declared()
    monkeypatch.setattr(package_check, "DISTRIBUTION", "no-such-distribution")
    monkeypatch.setattr(package_check, "PYPROJECT", tmp_path / "pyproject.toml")
    found = one(package_check.packages(), "packages")
    assert found.status is Status.WARNING
    assert str(tmp_path / "pyproject.toml") in found.found
    monkeypatch.undo()
    monkeypatch.setattr(package_check.metadata, "metadata", without(package_check.DISTRIBUTION))
    read = package_check._declared()
    assert declared is not None
    assert read is not None
    assert read.python.replace(" ", "").split(",").sort() == declared.python.split(",").sort()
    assert set(map(str, read.core)) == set(map(str, declared.core))
    assert {needed.name.replace("_", "-") for needed in read.server} == {needed.name for needed in declared.server}


def test_another_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_check.platform, "python_version", lambda: "3.12.1")
    found = one(package_check.packages(), "Python")
    assert found.status is Status.FAILED
    assert found.found.startswith("3.12.1, not ")


# the machine


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
def test_a_driver_without_a_device_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine_check, "DRIVER", tmp_path / "version")
    assert one(machine_check.graphics()) == ok("GPU", "none: trains and encodes on the CPU")
    (tmp_path / "version").touch()
    found = one(machine_check.graphics())
    assert found.status is Status.WARNING
    assert "--gpus all" in found.advice


def test_a_client_has_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # then an import of it fails
    assert one(machine_check.graphics()).status is Status.OK


def test_several_gpus_ask_for_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(name="NVIDIA X", total_memory=80 * GIB)  # there is none in the machines that test
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    monkeypatch.setattr(machine_check.shutil, "disk_usage", lambda _: Usage(2**26, 0, 2**26))
    gpu, shared = machine_check.graphics()
    assert gpu == ok("GPU", "NVIDIA X, 80.0 GiB; NVIDIA X, 80.0 GiB")
    assert shared.status is Status.WARNING
    assert "0.1 GiB" in shared.found
    assert "--shm-size" in shared.advice


@pytest.mark.parametrize(
    ("line", "file", "value", "limit"),
    [
        ("0::/", "memory.max", "max", None),
        ("0::/", "memory.max", str(2 * GIB), "2.0 GiB"),
        ("0::/docker/0123", "memory.max", str(2 * GIB), "2.0 GiB"),  # the host's path, and the container's own mount
        ("0::/a/b", "a/memory.max", str(3 * GIB), "3.0 GiB"),  # of the group around it
        ("4:cpu,cpuacct:/\n3:memory:/a", "memory/a/memory.limit_in_bytes", str(GIB), "1.0 GiB"),
        ("3:memory:/a", "memory/memory.limit_in_bytes", "9223372036854771712", None),  # version 1's 'none'
    ],
)
def test_memory_is_what_the_control_group_leaves(
    tmp_path: Path, line: str, file: str, value: str, limit: str | None
) -> None:
    (tmp_path / "groups" / file).parent.mkdir(parents=True)
    (tmp_path / "groups" / file).write_text(f"{value}\n")
    (tmp_path / "cgroup").write_text(f"{line}\n")
    found = one(machine_check.memory(tmp_path / "cgroup", tmp_path / "groups"))
    if limit is None:
        assert found == one(machine_check.memory(tmp_path / "none", tmp_path))
    else:
        assert found.status is Status.WARNING
        assert found.found.startswith(f"{limit}, the control group's limit")


@pytest.mark.parametrize(
    ("free", "disk", "temporary"),
    [(GIB / 2, Status.FAILED, Status.WARNING), (2 * GIB, Status.WARNING, Status.OK), (10 * GIB, Status.OK, Status.OK)],
)
def test_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, disk: Status, temporary: Status
) -> None:
    monkeypatch.setattr(machine_check.shutil, "disk_usage", lambda _: Usage(100 * GIB, 0, free))
    found = machine_check.disk(tmp_path)
    assert [(finding.name, finding.status) for finding in found] == [("disk", disk), ("temporary", temporary)]


# the workspace


def test_a_good_workspace_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "tokens.json").write_text("{}")
    assert one(workspace_check.folder(tmp_path)).status is Status.OK
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["runs", "tokens.json"]


def test_a_workspace_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert one(workspace_check.folder(tmp_path / "a" / "b")).status is Status.OK
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inner", ["", "workspace"])
def test_a_file_in_the_place_of_the_folder(tmp_path: Path, inner: str) -> None:
    (tmp_path / "file").touch()
    found = one(workspace_check.folder(tmp_path / "file" / inner))
    assert (found.status, found.found) == (Status.FAILED, f"{tmp_path / 'file'} is no folder")


def test_a_folder_that_cannot_be_written() -> None:
    found = one(workspace_check.folder(Path("/proc/workspace")))
    assert found.status is Status.FAILED
    assert found.found.startswith("/proc cannot be written: ")


@pytest.mark.parametrize("attempt", list(workspace_check.ATTEMPTS))
def test_a_file_system_that_lacks_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempt: str) -> None:
    def lacks(trial: Path) -> None:
        (trial / "half").touch()
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setitem(workspace_check.ATTEMPTS, attempt, lacks)
    found = one(workspace_check.folder(tmp_path))
    assert found.status is Status.FAILED
    assert f"does not keep {attempt}: " in found.found
    assert list(tmp_path.iterdir()) == []


def as_stranger(root: Path) -> Finding:
    """Return what the image's user finds, in a process of its own."""

    def look() -> None:
        os.setgroups([])
        os.setgid(STRANGER)
        os.setuid(STRANGER)
        answers.send(one(workspace_check.folder(root)))

    read, answers = multiprocessing.get_context("fork").Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=look)
    child.start()
    child.join(200)
    assert child.exitcode == 0
    found: Finding = read.recv()
    return found


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder to which every user finds the way; to those of pytest only their owner does."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_workspace_of_another_user_is_given_to_this_one(open_path: Path) -> None:
    root = open_path / "workspace"
    root.mkdir(mode=0o755)
    found = as_stranger(root)
    assert (found.status, found.found) == (Status.FAILED, f"{root} cannot be written: Permission denied")
    assert f"chown -R {STRANGER} {root} " in found.advice
    os.chown(root, STRANGER, -1)
    assert as_stranger(root).status is Status.OK
    (root / "tokens.json").touch(0o600)
    found = as_stranger(root)
    assert found.status is Status.FAILED
    assert found.found.endswith("may not read and write: tokens.json")
    assert f"chown -R {STRANGER} {root} " in found.advice


def test_the_way_to_a_workspace_is_not_given_away(open_path: Path) -> None:
    found = as_stranger(open_path / "workspace")
    assert f"mkdir -p {open_path / 'workspace'} && chown {STRANGER} {open_path / 'workspace'}" in found.advice
    assert "-R" not in found.advice


def test_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(workspace_check.clock(tmp_path)).status is Status.OK
    assert one(workspace_check.clock(Path("/proc"))).status is Status.OK, "nothing to compare with"
    assert list(tmp_path.iterdir()) == []
    real = time.time()
    for shown, status, said in ((0.0, Status.FAILED, "1970-01-01"), (real + 60, Status.WARNING, "behind")):
        clock = SimpleNamespace(time=lambda shown=shown: shown, gmtime=time.gmtime, strftime=time.strftime)
        monkeypatch.setattr(workspace_check, "time", clock)
        found = one(workspace_check.clock(tmp_path))
        assert found.status is status
        assert said in found.found


@pytest.mark.parametrize(("written", "seconds"), [(5, -5), (10, 0), (11, 0), (12, 0), (20, 8)])
def test_a_file_written_between_two_looks_at_the_clock(written: float, seconds: float) -> None:
    assert workspace_check.apart(written, 10, 12) == seconds


def test_weights_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("weights/ViT-B-32/openai.safetensors", "weights/ViT-B-32/config.json", "given/a.pt", "given/b/c.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv("FINETUNER_WEIGHTS", str(tmp_path / "given"))
    monkeypatch.setattr(workspace_check, "_hub_cache", lambda: None)
    found = one(workspace_check.weights(tmp_path))
    assert found == ok("weights", "clip-mini; files: 2 in $FINETUNER_WEIGHTS, 1 in the workspace")
    monkeypatch.setenv("FINETUNER_WEIGHTS", str(tmp_path / "nowhere"))
    assert next(workspace_check.weights(tmp_path)).status is Status.WARNING


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:-1], "its header says"),
        (lambda content: content[:100], "ends within its header"),
        (lambda content: b"\x02" + bytes(7) + b"[]", "not that of safetensors"),
        (lambda content: b"", "ends within its header"),
        (None, "No such file"),
    ],
)
def test_damaged_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes] | None, said: str
) -> None:
    file = tmp_path / "clip.safetensors"
    if damage is not None:
        file.write_bytes(damage(workspace_check.PACKAGED.read_bytes()))
    monkeypatch.setattr(workspace_check, "PACKAGED", file)
    found = one(workspace_check.weights(tmp_path))
    assert found.status is Status.FAILED
    assert said in found.found


# ports and Flow


@contextlib.contextmanager
def answering(state: str, token: str = "", status: int = 200) -> Iterator[str]:
    """Answer /healthz as a Flow would, and the rest to those who show the token; yields the address."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            entered = not token or self.headers.get("Authorization") == f"token {token}"
            healthz = self.path == "/healthz"
            self.send_response(status if healthz else 200 if entered else 401)
            self.end_headers()
            detail = {"detail": "text encoder: no answer"} if state != "ok" else {}
            self.wfile.write(json.dumps({"status": state, **detail}).encode() if healthz else b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def statuses(findings: Iterable[Finding]) -> dict[str, str]:
    return {finding.name: str(finding.status) for finding in findings}


def test_ports(tmp_path: Path, unused_port: int, impatient: None) -> None:
    assert statuses(flow_check.ports(tmp_path, 0, unused_port)) == {"grpc port": "ok", "http port": "ok"}
    with socket.create_server(("127.0.0.1", 0)) as taken:  # it accepts, and says nothing
        port = taken.getsockname()[1]
        found = one(flow_check.ports(tmp_path, port, 0), "grpc port")
        assert found.status is Status.FAILED
        assert found.found == f"{port} cannot be used: Address already in use"
        assert "--grpc-port" in found.advice
        addresses = {
            "pid": os.getpid(),
            "grpc": f"grpc://127.0.0.1:{port}",
            "http": "http://127.0.0.1:1",
            "metrics": {},
        }
        (tmp_path / "flow.json").write_text(json.dumps(addresses))
        assert one(flow_check.ports(tmp_path, port, 0), "grpc port").status is Status.OK


def test_the_port_of_a_flow_of_another_workspace(tmp_path: Path) -> None:
    with answering("unavailable", status=503) as address:
        found = one(flow_check.ports(tmp_path, 0, int(address.rpartition(":")[2])), "http port")
    assert found.status is Status.OK
    assert found.found.endswith("is in use by the Flow that is up")


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [("ok", 200, "ok"), ("degraded", 200, "warning"), ("unavailable", 503, "failed"), ("", 200, "failed")],
)
def test_health(tmp_path: Path, state: str, status: int, expected: str) -> None:
    with answering(state, status=status) as address:
        found = list(flow_check.flow(tmp_path, address))
    assert statuses(found) == {"Flow, HTTP": expected, "token": "ok"}
    if state not in ("", "ok"):
        assert f"is {state}: text encoder: no answer" in found[0].found


def test_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = TokenFile(tmp_path)
    secret = file.create("anna", "write", 30)
    with answering("ok", token=secret) as address:
        monkeypatch.setenv("FINETUNER_HOST", address)
        none = one(flow_check.flow(tmp_path), "token")
        assert none.status is Status.FAILED
        assert "FINETUNER_TOKEN" in none.advice
        assert one(flow_check.flow(tmp_path, token="another"), "token").status is Status.FAILED
        broken = one(flow_check.flow(tmp_path, token="s3cret\n"), "token")
        assert broken.status is Status.FAILED
        assert "s3cret" not in str(broken)
        monkeypatch.setenv("FINETUNER_TOKEN", secret)
        taken = one(flow_check.flow(tmp_path), "token")
        assert taken.status is Status.OK
        assert "the Flow takes it: anna, write, valid, until " in taken.found
        assert secret not in str(taken)


def test_a_flow_that_is_down(tmp_path: Path, unused_port: int) -> None:
    found = list(flow_check.flow(tmp_path, f"grpc://127.0.0.1:{unused_port}"))
    assert statuses(found) == {"Flow, gRPC": "failed", "Flow, HTTP": "ok"}
    assert f"grpc://127.0.0.1:{unused_port} does not answer: UNAVAILABLE" in found[0].found
    assert found[1].found.startswith("not checked")
    (down,) = flow_check.flow(tmp_path, f"http://127.0.0.1:{unused_port}")
    assert (down.name, down.status) == ("Flow, HTTP", Status.FAILED)


def test_what_a_killed_flow_has_left(tmp_path: Path, unused_port: int) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    where = f"127.0.0.1:{unused_port}"
    content = {"grpc": f"grpc://{where}", "http": f"http://{where}", "metrics": {}}
    for pid, expected in ((gone.pid, "warning"), (os.getpid(), "failed")):
        (tmp_path / "flow.json").write_text(json.dumps({"pid": pid, **content}))
        assert statuses(flow_check.flow(tmp_path)) == {"Flow, gRPC": expected, "Flow, HTTP": expected}
    (tmp_path / "flow.json").write_text("{")
    assert one(flow_check.flow(tmp_path)).found.startswith("not checked")


def test_a_host_that_is_none_is_a_finding(tmp_path: Path) -> None:
    found = one(doctor.examine(tmp_path, host="ftp://x", grpc_port=0, http_port=0), "Flow")
    assert found.status is Status.FAILED
    assert "Got 'ftp://x'" in found.found


def test_an_address_of_the_http_side_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNER_HTTP", "127.0.0.1:51001")
    with answering("ok") as address:
        found = one(doctor.examine(tmp_path, host=address, grpc_port=0, http_port=0), "Flow")
    assert found.status is Status.FAILED
    assert "Got '127.0.0.1:51001'" in found.found
