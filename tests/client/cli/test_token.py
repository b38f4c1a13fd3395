"""`finetuner token`: the first token of a Flow is its owner's."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from finetuner.cli.main import app
from finetuner.contract.environment import TOKEN
from finetuner.exceptions import InvalidInput
from finetuner.workspace.tokens import TokenFile


def create(folder: Path, name: str, *role: str) -> Result:
    return CliRunner().invoke(app, ["token", "create", name, *role, "--workspace", str(folder)])


@pytest.mark.parametrize("role", [(), ("--role", "read"), ("--role", "write")])
def test_the_first_token_is_an_admins(role: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    refused = create(tmp_path, "anna", *role)
    assert refused.exit_code != 0
    said = str(refused.exception) if isinstance(refused.exception, InvalidInput) else refused.output
    assert "role of the first token must be admin: from then on the Flow requires a token from everyone" in said
    assert TokenFile(tmp_path).read() == []
    first = create(tmp_path, "me", "--role", "admin")
    assert first.exit_code == 0
    assert f"export {TOKEN}=the token" in first.stderr
    second = create(tmp_path, "anna", *role)
    assert second.exit_code == 0
    assert "export" not in second.stderr
    assert second.stdout.startswith("ft_")


def test_a_flow_with_a_token_of_its_environment_has_an_admin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "x" * 40)
    assert create(tmp_path, "anna", "--role", "write").exit_code == 0
