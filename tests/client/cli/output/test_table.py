"""Tables of the command line."""

from __future__ import annotations

import pytest

from finetuner.cli.output.table import one_line, print_table


def test_values_stay_whole_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    artifact = "0123456789abcdef01234567"
    print_table(
        ("RUN", "ARTIFACT", "NOTE"), [("r", artifact, ""), ("ein-langer-name", artifact, "日本語"), ("日本", "", "x")]
    )
    assert capsys.readouterr().out.splitlines() == [
        "RUN              ARTIFACT                  NOTE",
        f"r                {artifact}",
        f"ein-langer-name  {artifact}  日本語",
        "日本                                       x",
    ]


def test_a_text_cannot_change_the_terminal() -> None:
    assert one_line("a\x1b[31m red\n\tdress\u202e\x07") == "a [31m red dress"
    assert one_line("ein rotes Kleid", 9) == "ein rote…"
    assert one_line("ein Kleid", 9) == "ein Kleid"


def test_a_table_without_rows_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("RUN", "STATUS"), [])
    assert capsys.readouterr().out == "RUN  STATUS\n"
