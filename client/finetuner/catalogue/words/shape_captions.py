"""Captions of scenes of shapes, in English and German."""

from random import Random

from ..colours import COLOURS
from ..patterns import PATTERNS
from ..scenes import Scene
from .english import with_article
from .german import Gender, capitalised, inflect, noun_phrase

# English singular and plural; German singular, plural and gender.
NOUNS: dict[str, tuple[str, str, str, str, Gender]] = {
    "circle": ("circle", "circles", "Kreis", "Kreise", "m"),
    "square": ("square", "squares", "Quadrat", "Quadrate", "n"),
    "triangle": ("triangle", "triangles", "Dreieck", "Dreiecke", "n"),
    "star": ("star", "stars", "Stern", "Sterne", "m"),
    "hexagon": ("hexagon", "hexagons", "Sechseck", "Sechsecke", "n"),
    "cross": ("cross", "crosses", "Kreuz", "Kreuze", "n"),
    "ring": ("ring", "rings", "Ring", "Ringe", "m"),
    "diamond": ("diamond", "diamonds", "Raute", "Rauten", "f"),
    "heart": ("heart", "hearts", "Herz", "Herzen", "n"),
    "rectangle": ("rectangle", "rectangles", "Rechteck", "Rechtecke", "n"),
}
SIZE_WORDS = {
    "": (("",), ("",)),
    "small": (("small", "little"), ("klein",)),
    "large": (("large", "big"), ("groß",)),
}
STRETCH_WORDS = {
    "": (("",), ("",)),
    "long": (("long",), ("lang",)),
    "short": (("short",), ("kurz",)),
    "wide": (("wide",), ("breit", "weit")),
    "narrow": (("narrow", "slim"), ("schmal", "eng")),
}
POSITION_WORDS = {
    "": (("",), ("",)),
    "left": (("on the left", "at the left side"), ("links", "auf der linken Seite")),
    "right": (("on the right", "at the right side"), ("rechts", "auf der rechten Seite")),
    "top": (("above the middle", "in the upper half"), ("oben", "in der oberen Hälfte")),
    "bottom": (("below the middle", "in the lower half"), ("unten", "in der unteren Hälfte")),
}
COUNT_WORDS = {2: ("two", "zwei"), 3: ("three", "drei")}


def describe(scene: Scene, language: str, rng: Random) -> str:
    """Return one caption of the scene in English (`en`) or German (`de`); `rng` chooses the words."""
    return _english(scene, rng) if language == "en" else _german(scene, rng)


def _english(scene: Scene, rng: Random) -> str:
    colour = rng.choice(COLOURS[scene.colour].en)
    noun = NOUNS[scene.form][0 if scene.count == 1 else 1]
    adjective, motif = _pattern_words(scene, rng, "en")
    shape = [rng.choice(SIZE_WORDS[scene.size][0]), rng.choice(STRETCH_WORDS[scene.stretch][0])]
    position = rng.choice(POSITION_WORDS[scene.position][0])
    behind = f"{rng.choice(('on', 'against'))} {with_article(rng.choice(COLOURS[scene.background].en))} background"
    number = COUNT_WORDS[scene.count][0] if scene.count > 1 else ""
    core = [*shape, colour, adjective] if rng.random() < 0.5 else [*shape, adjective, colour]
    phrase = _joined(number, *core, noun, motif)
    match rng.randrange(4):
        case 0:
            return capitalised(_joined(phrase if number else with_article(phrase), position, behind))
        case 1:
            return capitalised(_joined(phrase, position) + (f", {behind}" if rng.random() < 0.4 else ""))
        case 2:
            shown = phrase if number else with_article(phrase)
            return _joined(
                rng.choice(("A picture of", "A photo of")), shown, position, behind if rng.random() < 0.4 else ""
            )
    late = _joined(adjective, motif) or "plain"
    return capitalised(_joined(number, *shape, noun, "in", colour) + ", " + late + _after_comma(position))


def _german(scene: Scene, rng: Random) -> str:
    gender: Gender = NOUNS[scene.form][4] if scene.count == 1 else "pl"
    noun = NOUNS[scene.form][2 if scene.count == 1 else 3]
    colour = rng.choice(COLOURS[scene.colour].de)
    adjective, motif = _pattern_words(scene, rng, "de")
    shape = [rng.choice(SIZE_WORDS[scene.size][1]), rng.choice(STRETCH_WORDS[scene.stretch][1])]
    position = rng.choice(POSITION_WORDS[scene.position][1])
    stem = rng.choice(COLOURS[scene.background].de)
    behind = rng.choice((f"vor {stem}em Hintergrund", f"auf {stem}em Grund"))
    number = COUNT_WORDS[scene.count][1] if scene.count > 1 else ""
    order = [*shape, colour, adjective] if rng.random() < 0.5 else [*shape, adjective, colour]
    adjectives = [stem for stem in order if stem]
    phrase = _joined(number, noun_phrase(adjectives, noun, gender, article=not number))
    bare = _joined(number, noun_phrase(adjectives, noun, gender, article=False))
    match rng.randrange(4):
        case 0:
            return capitalised(_joined(phrase, motif, position, behind))
        case 1:
            return capitalised(_joined(bare, motif, position) + (f", {behind}" if rng.random() < 0.4 else ""))
        case 2:
            dative = noun_phrase(adjectives, _dative(noun, scene.count), gender, "dative", article=not number)
            return _joined(
                rng.choice(("Ein Bild von", "Ein Foto von")),
                number,
                dative,
                motif,
                position,
                behind if rng.random() < 0.4 else "",
            )
    in_colour = f"in {COLOURS[scene.colour].de_noun}"
    shaped = noun_phrase([stem for stem in shape if stem], noun, gender, article=False)
    late = _joined(adjective, motif) or "einfarbig"
    return capitalised(_joined(number, shaped, in_colour) + ", " + late + _after_comma(position))


def _pattern_words(scene: Scene, rng: Random, language: str) -> tuple[str, str]:
    """Return the pattern as an adjective or as `with ... dots`. Most captions omit a plain surface."""
    pattern = PATTERNS[scene.pattern]
    adjective = rng.choice(pattern.en if language == "en" else pattern.de)
    if scene.pattern == "plain":
        return (adjective if rng.random() < 0.4 else ""), ""
    if rng.random() < 0.35:
        return adjective, ""
    if language == "en":
        return "", f"with {rng.choice(COLOURS[scene.accent].en)} {pattern.motif_en}"
    return "", f"mit {inflect(rng.choice(COLOURS[scene.accent].de), 'pl', 'dative')} {pattern.motif_de}"


def _dative(noun: str, count: int) -> str:
    """Return the noun in the dative: in the plural it takes an n, unless it ends in one."""
    return noun if count == 1 or noun.endswith("n") else noun + "n"


def _joined(*words: str) -> str:
    return " ".join(word for word in words if word)


def _after_comma(words: str) -> str:
    return f", {words}" if words else ""
