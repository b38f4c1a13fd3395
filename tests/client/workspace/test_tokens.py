"""Stored tokens, and the commands that create and revoke them."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from finetuner.exceptions import AlreadyExists, InvalidInput, NotFound
from finetuner.workspace.tokens import ENVIRONMENT, ROOMS, Role, TokenFile, digest_of, is_loopback, rooms_secret

FINETUNER = Path(sys.executable).with_name("finetuner")


def test_only_the_hash_of_a_token_is_stored_in_a_private_file(tmp_path: Path) -> None:
    file = TokenFile(tmp_path)
    assert file.read() == []
    secret = file.create("ci", "write", 30)
    (token,) = file.read()
    assert (token.name, token.role, token.digest) == ("ci", Role.WRITE, digest_of(secret.encode()))
    assert token.expires_at == pytest.approx(token.created_at + 30 * 86400)
    assert secret not in file.path.read_text()
    assert len(secret) >= 43, "256 bits"
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.create("other", "read") != secret


def test_states(tmp_path: Path) -> None:
    file = TokenFile(tmp_path)
    file.create("ci", "read", 1)
    (token,) = file.read()
    now = time.time()
    assert [token.state(at) for at in (now, now + 2 * 86400)] == ["valid", "expired"]
    file.revoke("ci")
    assert file.read()[0].state(now) == "revoked"


def test_a_name_is_new_until_it_is_revoked(tmp_path: Path) -> None:
    file = TokenFile(tmp_path)
    first = file.create("ci", "read")
    with pytest.raises(AlreadyExists, match="name must be new. Got 'ci'.*Revoke"):
        file.create("ci", "admin")
    file.revoke("ci")
    assert file.create("ci", "admin") != first
    assert [(token.name, token.role) for token in file.read()] == [("ci", Role.ADMIN)]


@pytest.mark.parametrize("name", ["", "../x", "a b", "x" * 200, "\n", ENVIRONMENT, ROOMS])
def test_an_invalid_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="name must (be|not be)"):
        TokenFile(tmp_path).create(name, "read")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("role", "days"), [("root", None), ("READ", None), ("", None), ("read", 0), ("read", 99999)])
def test_an_invalid_role_or_time_is_refused(tmp_path: Path, role: str, days: int | None) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        TokenFile(tmp_path).create("ci", role, days)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_token_cannot_be_revoked(tmp_path: Path) -> None:
    file = TokenFile(tmp_path)
    with pytest.raises(NotFound, match="Got 'ci', and no such file. Check the workspace"):
        file.revoke("ci")
    file.create("ci", "read")
    for name in ("other", "ci", "ci"):
        if name == "other" or file.read()[0].revoked_at:
            with pytest.raises(NotFound, match=f"Got '{name}'"):
                file.revoke(name)
        else:
            file.revoke(name)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"tokens": 3}'])
def test_a_broken_file_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    file = TokenFile(tmp_path)
    file.path.write_text(content)
    with pytest.raises(InvalidInput, match=r"tokens\.json must be in the format of `finetuner token`"):
        file.create("ci", "read")
    assert file.path.read_text() == content


@pytest.mark.parametrize(
    "change",
    [{"role": "root"}, {"role": 3}, {"digest": "ä"}, {"digest": None}, {"expires_at": "soon"}, {"revoked_at": []},
     {"name": 5}, {"unknown": 1}],
)  # fmt: skip
def test_a_damaged_entry_is_set_aside_and_kept(tmp_path: Path, change: dict[str, Any]) -> None:
    file = TokenFile(tmp_path)
    for name in ("ci", "other"):
        file.create(name, "read")
    content = json.loads(file.path.read_bytes())
    content["tokens"][0] |= change
    file.path.write_text(json.dumps(content))
    assert [token.name for token in file.read()] == ["other"]
    (problem,) = file.problems()
    assert problem.startswith(
        "entry 1 of tokens.json must be in the format of `finetuner token`. Got another. It is set"
    )
    file.create("new", "admin")
    file.revoke("other")
    assert [token.name for token in file.read()] == ["other", "new"]
    assert content["tokens"][0] in json.loads(file.path.read_bytes())["tokens"]


def test_a_file_of_damaged_entries_does_not_open_a_flow(tmp_path: Path) -> None:
    file = TokenFile(tmp_path)
    assert not file.in_use
    for content in ('{"tokens": [5]}', "{"):
        file.path.write_text(content)
        assert file.in_use
        assert len(file.problems()) == 1


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"short"])
def test_a_damaged_secret_of_the_rooms_is_made_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rooms.token").write_bytes(content)
    assert len(rooms_secret(tmp_path)) == 43
    assert rooms_secret(tmp_path) == rooms_secret(tmp_path)


def _create(root: str, name: str) -> None:
    TokenFile(Path(root)).create(name, "read")


@pytest.mark.process
def test_two_processes_that_create_tokens_at_once_lose_none(tmp_path: Path) -> None:
    names = [f"token-{number}" for number in range(8)]
    context = multiprocessing.get_context("fork")
    makers = [context.Process(target=_create, args=(str(tmp_path), name)) for name in names]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert sorted(token.name for token in TokenFile(tmp_path).read()) == names


def test_rooms_share_one_secret(tmp_path: Path) -> None:
    secret = rooms_secret(tmp_path)
    assert rooms_secret(tmp_path) == secret
    assert stat.S_IMODE((tmp_path / "rooms.token").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_loopback(host: str, own: bool) -> None:
    assert is_loopback(host) is own


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FINETUNER_")}
    return subprocess.run(
        [str(FINETUNER), "token", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=folder,
        env=environment | {"COLUMNS": "120", "NO_COLOR": "1"},
        check=False,
    )


@pytest.mark.process
def test_the_command_creates_lists_and_revokes(tmp_path: Path) -> None:
    TokenFile(tmp_path / "here").create("me", "admin")
    made = run("create", "ci", "--role", "write", "--expires", "7", "--workspace", "here", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    assert digest_of(secret.encode()) == TokenFile(tmp_path / "here").read()[1].digest
    assert "cannot be shown again" in made.stderr
    listed = run("list", "--workspace", "here", folder=tmp_path).stdout
    assert all(word in listed for word in ("ci", "write", "valid"))
    assert secret not in listed
    assert run("revoke", "ci", "--workspace", "here", folder=tmp_path).returncode == 0
    assert "revoked" in run("list", "--workspace", "here", folder=tmp_path).stdout
    again = run("revoke", "ci", "--workspace", "here", folder=tmp_path)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == "finetuner: name must be a token that is not revoked: me. Got 'ci'.\n"


@pytest.mark.process
def test_listing_a_missing_folder_does_not_create_it(tmp_path: Path) -> None:
    assert run("list", "--workspace", "nowhere", folder=tmp_path).returncode == 0
    refused = run("revoke", "ci", "--workspace", "nowhere", folder=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
