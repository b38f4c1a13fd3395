"""Captions of garments in English and German, in the words of shops and their customers."""

from dataclasses import dataclass
from random import Random

from ..colours import COLOURS
from ..designs import Design
from ..patterns import PATTERNS
from .english import with_article
from .garment_words import (
    ENGLISH,
    ENGLISH_COMPOUNDS,
    ENGLISH_PLURALS,
    FITS,
    GERMAN,
    GERMAN_COMPOUNDS,
    LENGTHS,
    NECKS,
    SLEEVES,
)
from .german import Gender, capitalised, inflect, noun_phrase

SHOP_WORD_SHARE = 0.3
"""Share of captions with the shop name of the colour; captions of shapes never use one."""


@dataclass(frozen=True)
class Words:
    """The words of one caption."""

    noun: str
    gender: Gender
    colour: str
    shape: list[str]
    """Adjectives of sleeve, length and fit."""
    pattern: str
    """Adjective of the pattern; may be empty."""
    details: list[str]
    """Phrases after `with`: the pattern's motif and the neck; may be empty."""


def describe(design: Design, background: str, language: str, rng: Random) -> str:
    """Return one caption of the design; it leaves out some attributes at random.

    Args:
        design: of the garment.
        background: name of the background's colour.
        language: `en` or `de`.
        rng: chooses the words.
    """
    words = _words(design, language, rng)
    colour = COLOURS[background].en[0] if language == "en" else COLOURS[background].de[0]
    shown = rng.random() < 0.2
    if language == "en":
        return _english(words, f"on {with_article(colour)} background" if shown else "", rng)
    return _german(words, COLOURS[design.colour].de_noun, f"vor {colour}em Hintergrund" if shown else "", rng)


def _english(words: Words, behind: str, rng: Random) -> str:
    details = f"with {' and '.join(words.details)}" if words.details else ""
    article = words.gender != "pl"
    looks = [words.colour, words.pattern] if rng.random() < 0.5 else [words.pattern, words.colour]
    phrase = _joined(*words.shape, *looks, words.noun)
    match rng.randrange(5):
        case 0:
            return capitalised(_joined(with_article(phrase) if article else phrase, details, behind))
        case 1:
            return capitalised(_listed(phrase, details, behind))
        case 2:
            return _joined("A photo of", with_article(phrase) if article else phrase, details, behind)
        case 3:
            shaped = _joined(*words.shape, words.noun, "in", words.colour)
            return capitalised(_listed(shaped, words.pattern, details, behind))
    coloured = _joined(words.colour, words.noun)
    return f"For sale: {_listed(coloured, *words.shape, words.pattern, details, behind)}"


def _german(words: Words, colour_noun: str, behind: str, rng: Random) -> str:
    details = f"mit {' und '.join(words.details)}" if words.details else ""
    looks = [words.colour, words.pattern] if rng.random() < 0.5 else [words.pattern, words.colour]
    adjectives = [stem for stem in (*words.shape, *looks) if stem]
    match rng.randrange(5):
        case 0:
            return capitalised(_joined(noun_phrase(adjectives, words.noun, words.gender), details, behind))
        case 1:
            bare = noun_phrase(adjectives, words.noun, words.gender, article=False)
            return capitalised(_listed(bare, details, behind))
        case 2:
            dative = noun_phrase(adjectives, words.noun, words.gender, "dative")
            return _joined("Ein Foto von", dative, details, behind)
        case 3:
            shaped = noun_phrase(words.shape, words.noun, words.gender, article=False)
            return capitalised(_listed(f"{shaped} in {colour_noun}", words.pattern, details, behind))
    coloured = noun_phrase([words.colour], words.noun, words.gender, article=False)
    return f"Zu verkaufen: {_listed(coloured, *words.shape, words.pattern, details, behind)}"


def _words(design: Design, language: str, rng: Random) -> Words:
    index = 0 if language == "en" else 1
    colour = COLOURS[design.colour]
    usual, shop = (colour.en, colour.shop_en) if language == "en" else (colour.de, colour.shop_de)
    noun, gender, inside = _noun(design, language, rng)
    shape = []
    for table, value, share, within in (
        (FITS, design.fit, 0.75, ""),
        (LENGTHS, design.length, 0.85, design.length),
        (SLEEVES, design.sleeve, 0.85, _sleeved(design)),
    ):
        if value and rng.random() < share and not (inside and within == inside):
            shape.append(rng.choice(table[value][index]))
    pattern, motif = _pattern(design, language, rng)
    details = [motif] if motif else []
    if design.neck and rng.random() < 0.6:
        details.append(rng.choice(NECKS[design.neck][index]))
    chosen = rng.choice(shop if rng.random() < SHOP_WORD_SHARE else usual)
    return Words(noun, gender, chosen, shape, pattern, details)


def _noun(design: Design, language: str, rng: Random) -> tuple[str, Gender, str]:
    """Return the noun, its gender, and the attribute value that it includes, as `miniskirt` includes short."""
    compound = rng.random() < 0.4
    for value in (design.length, _sleeved(design)):
        key = (design.garment, value)
        if compound and language == "en" and key in ENGLISH_COMPOUNDS:
            return ENGLISH_COMPOUNDS[key], "n", value
        if compound and language == "de" and key in GERMAN_COMPOUNDS:
            return *GERMAN_COMPOUNDS[key], value
    if language == "en":
        return rng.choice(ENGLISH[design.garment]), "pl" if design.garment in ENGLISH_PLURALS else "n", ""
    return *rng.choice(GERMAN[design.garment]), ""


def _sleeved(design: Design) -> str:
    """Return the sleeve as an attribute value that differs from every length."""
    return f"{design.sleeve}-sleeved" if design.sleeve in ("short", "long") else ""


def _pattern(design: Design, language: str, rng: Random) -> tuple[str, str]:
    """Return the pattern as an adjective or as a motif in the accent colour. Most captions omit a plain surface."""
    pattern = PATTERNS[design.pattern]
    adjective = rng.choice(pattern.en if language == "en" else pattern.de)
    if design.pattern == "plain":
        return (adjective if rng.random() < 0.3 else ""), ""
    if rng.random() < 0.35:
        return adjective, ""
    if language == "en":
        return "", f"{rng.choice(COLOURS[design.accent].en)} {pattern.motif_en}"
    return "", f"{inflect(rng.choice(COLOURS[design.accent].de), 'pl', 'dative')} {pattern.motif_de}"


def _joined(*words: str) -> str:
    return " ".join(word for word in words if word)


def _listed(*phrases: str) -> str:
    return ", ".join(phrase for phrase in phrases if phrase)
