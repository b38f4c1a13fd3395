"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

import finetuner
from finetuner.api import session
from finetuner.cli.main import app
from finetuner.flow.running_flow import RunningFlow

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.slow
def test_the_python_of_the_readme_runs(
    flow: RunningFlow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *others = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert 'host="grpc://127.0.0.1:51000"' in first
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "_current", None)
    names: dict[str, Any] = {}
    exec(first.replace("grpc://127.0.0.1:51000", flow.host), names)
    metrics = names["run"].metrics()
    assert all(value > metrics["before"][name] for name, value in metrics["after"].items()), metrics
    printed = capsys.readouterr().out
    recalls = re.findall(r"^R@5 (before|after): (0\.\d{3})$", printed, re.MULTILINE)
    assert [stage for stage, _ in recalls] == ["before", "after"]
    # The Flow is shared: other tests' documents follow the promotion and may be found, too.
    assert re.search(r"^0\.\d\d .*black.*(t-shirt|tee)", printed, re.MULTILINE), printed
    exec("\n".join(others), names)
    assert names["vectors"].shape == (2, 128)
    finetuner.promote("clip-mini")


def test_the_commands_of_the_readme_are_read_by_the_command_line() -> None:
    """Their options and arguments, without carrying anything out."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", README.read_text(), re.DOTALL))
    commands = [shlex.split(line, comments=True)[1:] for line in blocks.splitlines() if line.startswith("finetuner ")]
    assert len(commands) > 10
    for words in commands:
        command: Any = typer.main.get_command(app)
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context(command.name, words)


def test_every_path_of_the_file_map_exists() -> None:
    root, folder, found = README.parent, "", 0
    for line in README.read_text().splitlines():
        if line.startswith("| ") and "`" in line.split("|")[1]:
            cell = line.split("|")[1]
            nested = "&nbsp;" in cell
            for name in re.findall(r"`([^`]+)`", cell):
                path = f"{folder}{name}" if nested else name
                assert (root / path).exists(), path
                found += 1
                if not nested:
                    folder = name
    assert found > 25
