"""German adjective endings and articles, for the few cases that captions need."""

from typing import Literal

Gender = Literal["m", "f", "n", "pl"]
Case = Literal["nominative", "dative"]

# After "ein"; the plural has no article and then the strong ending, which is the same in the nominative.
_NOMINATIVE: dict[Gender, str] = {"m": "er", "f": "e", "n": "es", "pl": "e"}
_ARTICLES: dict[Case, dict[Gender, str]] = {
    "nominative": {"m": "ein", "f": "eine", "n": "ein", "pl": ""},
    "dative": {"m": "einem", "f": "einer", "n": "einem", "pl": ""},
}


def inflect(stem: str, gender: Gender, case: Case = "nominative") -> str:
    """The adjective before a noun after ``ein`` (plural: without article): ``rot``, ``n`` -> ``rotes``."""
    return stem + (_NOMINATIVE[gender] if case == "nominative" else "en")


def noun_phrase(
    adjectives: list[str], noun: str, gender: Gender, case: Case = "nominative", article: bool = True
) -> str:
    """Article, inflected adjectives and noun: ``ein ärmelloses rotes Kleid``, ``einer blauen Hose``.

    Without the article only the nominative is right, and the adjectives take the same endings there.
    """
    words = [inflect(stem, gender, case) for stem in adjectives]
    return " ".join([word for word in [_ARTICLES[case][gender] if article else ""] if word] + words + [noun])


def capitalised(sentence: str) -> str:
    """The sentence with a capital first letter and the rest as it stands (nouns keep theirs)."""
    return sentence[:1].upper() + sentence[1:]
