"""The script of a text is that of nine tenths of its letters."""

import pytest

from finetuner.statistics.scripts import MIXED, NONE, script_of


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("A red dress, 12 €", "Latin"),
        ("Ärmelloses Kleid", "Latin"),
        ("красное платье", "Cyrillic"),
        ("赤いドレス", "CJK"),
        ("\uff52\uff45\uff44", "Latin"),
        ("빨간 드레스", "Hangul"),
        ("red платье", MIXED),
        ("a very long caption of a dress ж", "Latin"),
        ("12345 !?", NONE),
        ("", NONE),
    ],
)
def test_the_script_of_a_text(text: str, script: str) -> None:
    assert script_of(text) == script
