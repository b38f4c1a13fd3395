"""The shell commands, files and links of README.md, CONTRIBUTING.md and docs/ exist. tests/flows runs their Python."""

from __future__ import annotations

import re
import shlex
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.room_commands import command_line
from tests.snippets import DOCS, FENCE, INLINE, ROOT, TEXTS, blocks, commands, python

README = ROOT / "README.md"
FOLDERS = ("client/", "docs/", "executors/", "flows/", "tests/")
MADE = {"flows/.env"}  # by the user
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_the_command_line_takes_the_commands(path: Path) -> None:
    """Their options and arguments, without carrying anything out."""
    for words in commands(path):
        name, *words = words
        if name == "make":
            assert {word for word in words if "=" not in word} <= TARGETS, words
        if name != "finetuner":
            continue
        command = command_line()
        while hasattr(command, "commands") and words:
            command = command.commands[words.pop(0)]
        if not hasattr(command, "commands"):
            command.make_context(command.name, words, resilient_parsing=not words)


def test_the_commands_are_found() -> None:
    names = [words[0] for path in TEXTS for words in commands(path)]
    assert names.count("finetuner") > 40
    assert names.count("make") > 15


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_the_files_exist(path: Path) -> None:
    words = {word for code in INLINE.findall(FENCE.sub("", path.read_text())) for word in code.split()}
    words |= {word for command in commands(path) for word in command}
    named = {word for word in words if word.startswith(FOLDERS) and re.fullmatch(r"[\w./-]+", word)}
    assert sorted(name for name in named - MADE if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("path", [README, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.stem)
def test_the_links_outside_the_site_lead_somewhere(path: Path) -> None:
    """Those between pages are checked by the build."""
    text = FENCE.sub("", path.read_text())
    for link in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", text):
        file, _, anchor = "".join(link).partition("#")
        assert (ROOT / file).is_file(), file
        if anchor:
            headings = re.findall(r"^#+ (.*)", (ROOT / file).read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_readme_is_short_and_shows_its_example() -> None:
    assert len(README.read_text().splitlines()) < 150
    assert 10_000 < (DOCS / "images" / "before-after.png").stat().st_size < 300_000
    first, *_ = blocks(README, "python")
    assert len([line for line in first.splitlines() if line]) == 8
    assert "make demo" in README.read_text()[:600]
    assert "make test" in README.read_text()[:600]


def test_the_python_compiles() -> None:
    pages = [path for path in TEXTS if python(path)]
    assert len(pages) > 8
    for path in pages:
        compile(python(path), str(path), "exec")


def test_the_certificate_of_the_documentation_is_trusted(tmp_path: Path) -> None:
    (command,) = (words for words in commands(DOCS / "operations.md") if words[0] == "openssl")
    assert "openssl rand" not in shlex.join(command)
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=tmp_path / "cert.pem")
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    for name in ("flow.example.com", "localhost", "127.0.0.1"):
        _shake_hands(server, client, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(server, client, "other.example.com")


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)]
    while sides:
        for side in list(sides):
            try:
                side.do_handshake()
                sides.remove(side)
            except ssl.SSLWantReadError:
                pass
