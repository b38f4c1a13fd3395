"""German adjective endings and articles, in the cases that captions use."""

from typing import Literal

Gender = Literal["m", "f", "n", "pl"]
Case = Literal["nominative", "dative"]

# After "ein". The plural has no article and takes the strong ending.
_NOMINATIVE: dict[Gender, str] = {"m": "er", "f": "e", "n": "es", "pl": "e"}
_ARTICLES: dict[Case, dict[Gender, str]] = {
    "nominative": {"m": "ein", "f": "eine", "n": "ein", "pl": ""},
    "dative": {"m": "einem", "f": "einer", "n": "einem", "pl": ""},
}


def inflect(stem: str, gender: Gender, case: Case = "nominative") -> str:
    """Return the adjective as it stands after `ein`, or in the plural without article: `rot`, `n` -> `rotes`."""
    return stem + (_NOMINATIVE[gender] if case == "nominative" else "en")


def noun_phrase(
    adjectives: list[str], noun: str, gender: Gender, case: Case = "nominative", article: bool = True
) -> str:
    """Return article, inflected adjectives and noun: `ein ärmelloses rotes Kleid`, `einer blauen Hose`.

    Without the article, only the nominative is correct German; its adjectives take the same endings.
    """
    words = [inflect(stem, gender, case) for stem in adjectives]
    return " ".join([word for word in [_ARTICLES[case][gender] if article else ""] if word] + words + [noun])


def capitalised(sentence: str) -> str:
    """Return the sentence with a capital first letter; the capitals of nouns stay."""
    return sentence[:1].upper() + sentence[1:]
