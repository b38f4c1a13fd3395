"""English and German sentences about an image of a garment, as shops and their customers write them."""

from dataclasses import dataclass
from random import Random

from finetuner.catalogue.colours import COLOURS
from finetuner.catalogue.designs import Design
from finetuner.catalogue.drawing.patterns import PATTERNS
from finetuner.catalogue.words.english import with_article
from finetuner.catalogue.words.garment_words import (
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
from finetuner.catalogue.words.german import Gender, capitalised, inflect, noun_phrase

SHOP_WORD_SHARE = 0.3
"""How often a colour goes by its shop name, which the shapes never use."""


@dataclass(frozen=True)
class Words:
    """The words that one sentence is built from."""

    noun: str
    gender: Gender
    colour: str
    shape: list[str]
    """Adjectives of sleeve, length and fit."""
    pattern: str
    """Adjective of the pattern; may be empty."""
    details: list[str]
    """What follows ``with``: the pattern's motif and the neck; may be empty."""


def describe(design: Design, ground: str, language: str, rng: Random) -> str:
    """One sentence about the design before a ground of the named colour; ``rng`` chooses the words.

    ``language`` is ``en`` or ``de``. Not every attribute is mentioned every time.
    """
    words = _words(design, language, rng)
    behind = COLOURS[ground].en[0] if language == "en" else COLOURS[ground].de[0]
    shown = rng.random() < 0.2
    if language == "en":
        return _english(words, f"on {with_article(behind)} background" if shown else "", rng)
    return _german(words, COLOURS[design.colour].de_noun, f"vor {behind}em Hintergrund" if shown else "", rng)


def _english(words: Words, ground: str, rng: Random) -> str:
    details = f"with {' and '.join(words.details)}" if words.details else ""
    article = words.gender != "pl"
    looks = [words.colour, words.pattern] if rng.random() < 0.5 else [words.pattern, words.colour]
    thing = _joined(*words.shape, *looks, words.noun)
    match rng.randrange(5):
        case 0:
            return capitalised(_joined(with_article(thing) if article else thing, details, ground))
        case 1:
            return capitalised(_listed(thing, details, ground))
        case 2:
            return _joined("A photo of", with_article(thing) if article else thing, details, ground)
        case 3:
            shaped = _joined(*words.shape, words.noun, "in", words.colour)
            return capitalised(_listed(shaped, words.pattern, details, ground))
    coloured = _joined(words.colour, words.noun)
    return f"For sale: {_listed(coloured, *words.shape, words.pattern, details, ground)}"


def _german(words: Words, colour_noun: str, ground: str, rng: Random) -> str:
    details = f"mit {' und '.join(words.details)}" if words.details else ""
    looks = [words.colour, words.pattern] if rng.random() < 0.5 else [words.pattern, words.colour]
    adjectives = [stem for stem in (*words.shape, *looks) if stem]
    match rng.randrange(5):
        case 0:
            return capitalised(_joined(noun_phrase(adjectives, words.noun, words.gender), details, ground))
        case 1:
            bare = noun_phrase(adjectives, words.noun, words.gender, article=False)
            return capitalised(_listed(bare, details, ground))
        case 2:
            dative = noun_phrase(adjectives, words.noun, words.gender, "dative")
            return _joined("Ein Foto von", dative, details, ground)
        case 3:
            shaped = noun_phrase(words.shape, words.noun, words.gender, article=False)
            return capitalised(_listed(f"{shaped} in {colour_noun}", words.pattern, details, ground))
    coloured = noun_phrase([words.colour], words.noun, words.gender, article=False)
    return f"Zu verkaufen: {_listed(coloured, *words.shape, words.pattern, details, ground)}"


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
    """The noun, its gender, and the attribute value that it says already (as ``miniskirt`` says short)."""
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
    """The sleeve as an attribute value that cannot be mistaken for a length."""
    return f"{design.sleeve}-sleeved" if design.sleeve in ("short", "long") else ""


def _pattern(design: Design, language: str, rng: Random) -> tuple[str, str]:
    """The pattern as an adjective or as its motif with the accent colour; plain is often not mentioned."""
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
