"""The colours of both domains: RGB values, and names in English and German."""

from dataclasses import dataclass
from random import Random

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Colour:
    """One colour with its names. German adjectives are stems that take an ending: `rot` + `es`."""

    rgb: RGB
    """Mean of the colour, 0 to 255 per channel; `shade` varies it."""
    en: tuple[str, ...]
    """English adjectives of both domains."""
    de: tuple[str, ...]
    """German adjective stems of both domains."""
    de_noun: str
    """German noun, as in `in Dunkelblau`."""
    shop_en: tuple[str, ...]
    """English names in a fashion shop; captions of shapes never use them."""
    shop_de: tuple[str, ...]
    """German adjective stems in a fashion shop; captions of shapes never use them."""


COLOURS: dict[str, Colour] = {
    "black": Colour((28, 28, 32), ("black",), ("schwarz",), "Schwarz", ("jet black",), ("tiefschwarz",)),
    "white": Colour((242, 242, 240), ("white",), ("weiß",), "Weiß", ("snow white",), ("schneeweiß",)),
    "grey": Colour((134, 136, 140), ("grey", "gray"), ("grau",), "Grau", ("ash grey",), ("aschgrau",)),
    "red": Colour((208, 32, 38), ("red",), ("rot",), "Rot", ("scarlet", "cherry red"), ("kirschrot",)),
    "dark red": Colour((112, 18, 36), ("dark red",), ("dunkelrot",), "Dunkelrot", ("burgundy", "maroon"), ("weinrot",)),
    "orange": Colour((242, 130, 30), ("orange",), ("orangefarben",), "Orange", ("tangerine",), ("mandarinenfarben",)),
    "yellow": Colour((246, 212, 48), ("yellow",), ("gelb",), "Gelb", ("lemon yellow",), ("zitronengelb",)),
    "green": Colour((52, 152, 62), ("green",), ("grün",), "Grün", ("grass green",), ("grasgrün",)),
    "dark green": Colour(
        (18, 74, 46), ("dark green",), ("dunkelgrün",), "Dunkelgrün", ("bottle green",), ("tannengrün",)
    ),
    "turquoise": Colour((32, 172, 174), ("turquoise",), ("türkisfarben",), "Türkis", ("teal",), ("petrolfarben",)),
    "light blue": Colour((140, 190, 236), ("light blue",), ("hellblau",), "Hellblau", ("sky blue",), ("himmelblau",)),
    "blue": Colour((38, 92, 210), ("blue",), ("blau",), "Blau", ("royal blue",), ("königsblau",)),
    "dark blue": Colour(
        (24, 36, 92), ("dark blue", "navy"), ("dunkelblau",), "Dunkelblau", ("navy blue",), ("marineblau",)
    ),
    "purple": Colour(
        (122, 54, 158),
        ("purple", "violet"),
        ("violett", "lilafarben"),
        "Lila",
        ("plum",),
        ("pflaumenfarben",),
    ),
    "pink": Colour((242, 138, 176), ("pink",), ("rosafarben", "pink"), "Rosa", ("rose",), ("altrosafarben",)),
    "brown": Colour((112, 70, 40), ("brown",), ("braun",), "Braun", ("chocolate brown",), ("schokoladenbraun",)),
    "beige": Colour((218, 198, 162), ("beige",), ("beigefarben",), "Beige", ("sand",), ("sandfarben",)),
}


def shade(name: str, rng: Random, spread: int = 14) -> RGB:
    """Return a random shade of a named colour: lighter or darker overall, with a small change in each channel."""
    lightness = rng.uniform(-spread, spread)
    red, green, blue = (
        round(min(255.0, max(0.0, channel + lightness + rng.uniform(-spread, spread) / 2)))
        for channel in COLOURS[name].rgb
    )
    return red, green, blue


def distance(first: str, second: str) -> float:
    """Return the Euclidean distance of two named colours in RGB, 0 to 442."""
    pairs = zip(COLOURS[first].rgb, COLOURS[second].rgb, strict=True)
    return float(sum((a - b) ** 2 for a, b in pairs) ** 0.5)


def accents(name: str) -> tuple[str, ...]:
    """Return the colours for a pattern on a named colour: those with enough contrast to it."""
    return tuple(other for other in COLOURS if distance(name, other) > 150)


def toned(rgb: RGB, factor: float) -> RGB:
    """Return the colour multiplied by `factor`, clipped to 0 to 255."""
    red, green, blue = (round(min(255.0, max(0.0, channel * factor))) for channel in rgb)
    return red, green, blue


def lightened(rgb: RGB, amount: int) -> RGB:
    """Return the colour with `amount` added to each channel, clipped at 255."""
    red, green, blue = (min(255, channel + amount) for channel in rgb)
    return red, green, blue
