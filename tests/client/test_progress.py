"""Progress where there is no terminal: lines for the command line, nothing for scripts."""

from __future__ import annotations

import pytest

from finetuner import progress


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.001)


def seen(capfd: pytest.CaptureFixture[str], text: str) -> bool:
    """Wait until a line with the text has come."""
    while True:
        if text in capfd.readouterr().err:
            return True


def test_the_command_line_gets_lines(
    at_once: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_lines", True)
    with progress.bar("Indexing", 20) as advance:
        assert seen(capfd, "Indexing: 0 of 20, 0 s\n")
        advance(15)
        assert seen(capfd, "Indexing: 15 of 20, ")
    with progress.bar("Uploading x.zip", 3_000_000, in_bytes=True) as advance:
        advance(1_500_000)
        assert seen(capfd, "Uploading x.zip: 1.5 of 3.0 MB, ")
    with progress.bar("Reading", None) as advance:
        assert seen(capfd, "Reading: 0 s\n")
        advance(3)
        assert seen(capfd, "Reading: 3, ")
    with progress.waiting("Moving the index"):
        assert seen(capfd, "Moving the index: 0 s\n")
    capfd.readouterr()
    assert capfd.readouterr() == ("", "")


def test_a_script_gets_nothing(at_once: None, capfd: pytest.CaptureFixture[str]) -> None:
    with progress.bar("Indexing", 2) as advance, progress.waiting("Moving"):
        advance(2)
    assert capfd.readouterr() == ("", "")


def test_a_failed_step_ends_its_lines(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_lines", True)
    with pytest.raises(ValueError, match="boom"), progress.waiting("Moving"):
        raise ValueError("boom")
