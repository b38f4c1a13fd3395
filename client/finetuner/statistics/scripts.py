"""The script of a text, by Unicode. It is no language, but a caption in another script than the rest stands out."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

MIXED, NONE = "several", "no letters"
CJK = ("CJK", "HIRAGANA", "KATAKANA")


def script_of(text: str) -> str:
    """Return the script of a text's letters, such as 'Latin', 'Cyrillic' or 'CJK'.

    Chinese and Japanese are one, since Japanese mixes its scripts with Chinese characters. MIXED stands for letters of
    several scripts of which none has nine tenths, NONE for a text without letters.
    """
    counts: dict[str, int] = {}
    for letter in filter(str.isalpha, text):
        script = _script(letter)
        counts[script] = counts.get(script, 0) + 1
    if not counts:
        return NONE
    script, most = max(counts.items(), key=lambda item: item[1])
    return script if 10 * most >= 9 * sum(counts.values()) else MIXED


@lru_cache(2**14)
def _script(letter: str) -> str:
    words = unicodedata.name(letter, "OTHER").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ").split()
    return "CJK" if words[0] in CJK else words[0].capitalize()
