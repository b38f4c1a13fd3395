"""The command line, run as a process."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer

from finetuner.cli.main import app

pytestmark = pytest.mark.process

FINETUNER = Path(sys.executable).with_name("finetuner")


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FINETUNER_")}
    return subprocess.run(
        [str(FINETUNER), *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=folder,
        env=environment | {"COLUMNS": "120", "NO_COLOR": "1"},
        check=False,
    )


def test_help_names_every_command(tmp_path: Path) -> None:
    done = run("--help", folder=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert re.search(r"up\b.*demo\b.*runs\b.*logs\b.*search\b.*benchmark\b", done.stdout, re.DOTALL)


def commands() -> dict[str, Any]:
    """Return every group and command of the command line by name, such as 'index backup'."""

    def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield name, command
        for word, inner in getattr(command, "commands", {}).items():
            yield from below(f"{name} {word}".strip(), inner)

    return dict(below("", typer.main.get_command(app)))


@pytest.mark.parametrize("name", sorted(commands()))
def test_the_help_ends_with_an_example_that_the_command_line_reads(name: str) -> None:
    described, _, examples = commands()[name].help.partition("\b\nExample:\n")
    assert described.strip().endswith(".")
    lines = [line.strip() for line in examples.splitlines()]
    assert lines
    for line in lines:
        assert line.startswith(f"finetuner {name}".strip())
        words = shlex.split(line)[1:]
        command = commands()[""]
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context(command.name, words)  # without carrying it out


HEAVY = ["torch", "jina", "docarray", "open_clip", "transformers", "pyarrow", "pandas", "numpy", "PIL", "fastapi"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["index", "status", "--help"],
        ["token", "list"],
        ["runs"],
        ["logs", "my-run"],
        ["index", "status"],
        ["artifact", "pull", "live"],
        ["data", "show", "shop"],
        ["search", "a red dress"],
    ],
    ids=" ".join,
)
def test_a_command_starts_without_heavy_packages(arguments: list[str], tmp_path: Path, unused_port: int) -> None:
    program = (
        "import sys\n"
        "from finetuner.cli import main\n"
        f"sys.argv = {['finetuner', *arguments]!r}\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('loaded', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    environment = os.environ | {"FINETUNER_HOST": f"grpc://127.0.0.1:{unused_port}", "FINETUNER_TOKEN": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=200, cwd=tmp_path, env=environment
    )
    assert done.stdout.splitlines()[-1] == "loaded []", done.stderr


@pytest.mark.parametrize("file", [".", "missing/page.html"])
def test_a_page_that_cannot_be_written_is_refused_before_the_search(tmp_path: Path, file: str) -> None:
    done = run("search", "a red dress", "--html", file, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"finetuner: --html must be a file in an existing folder. Got {file!r}.")


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").mkdir()
    done = run("token", "list", "--workspace", ".", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("finetuner: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command", [["runs"], ["logs", "my-run"], ["search", "a red dress"]], ids=lambda command: command[0]
)
def test_a_missing_flow_gives_one_line_and_exit_code_1(tmp_path: Path, unused_port: int, command: list[str]) -> None:
    done = run(*command, "--host", f"grpc://127.0.0.1:{unused_port}", folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"finetuner: a Flow must answer at grpc://127.0.0.1:{unused_port}. None does: ")
    assert list(tmp_path.iterdir()) == []


def test_a_malformed_host_gives_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = run("runs", "--host", "ftp://x", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "host must be like grpc://127.0.0.1:51000" in done.stderr


def test_the_demo_keeps_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "out" / "workspace").mkdir(parents=True)
    (tmp_path / "out" / "workspace" / "thesis.tex").write_text("years of work")
    done = run("demo", "--out", "out", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "--out must be new or the folder of an earlier demo. Got out, which holds other files" in done.stderr
    assert (tmp_path / "out" / "workspace" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(("option", "value"), [("--items", "0"), ("--items", "5001"), ("--epochs", "0")])
def test_the_demo_refuses_a_number_before_it_writes(tmp_path: Path, option: str, value: str) -> None:
    done = run("demo", option, value, "--out", "out", folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(rf"finetuner: {option[2:]} must be a whole number in .* Got {value}\..*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["search"], ["search", "x", "--limit", "many"], ["search", "x", "--limit", "0"]],
    ids=" ".join,
)
def test_a_usage_error_gives_exit_code_2(tmp_path: Path, arguments: list[str]) -> None:
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert "Usage: finetuner" in done.stderr


@pytest.mark.parametrize("way", [["--token", "s3cret=-t0ken"], ["--token=s3cret=-t0ken"]])
@pytest.mark.parametrize("command", [[str(FINETUNER)], [sys.executable, "-m", "finetuner.cli"]])
def test_a_token_does_not_stay_in_the_arguments(tmp_path: Path, command: list[str], way: list[str]) -> None:
    """The command waits for a Flow that takes its connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = psutil.Popen([*command, "runs", *way, "--host", address], cwd=tmp_path, stderr=subprocess.PIPE)
        try:
            silent.accept()[0].close()
            assert process.cmdline()[-3:] == ["runs", "--host", address]
            assert process.environ()["FINETUNER_TOKEN"] == "s3cret=-t0ken"
        finally:
            process.kill()
            process.communicate()


def test_a_token_without_its_value_is_an_error_of_the_command_line(tmp_path: Path) -> None:
    done = run("runs", "--token", folder=tmp_path)
    assert done.returncode == 2
    assert "requires an argument" in done.stderr
