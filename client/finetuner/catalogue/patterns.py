"""Names of the surface patterns of both domains, in English and German."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pattern:
    """The names of one pattern, as an adjective (`dotted`) and as a motif (`with white dots`)."""

    en: tuple[str, ...]
    """English adjectives."""
    de: tuple[str, ...]
    """German adjective stems."""
    motif_en: str = ""
    """English plural of the motif; empty for a plain surface."""
    motif_de: str = ""
    """German dative plural of the motif; empty for a plain surface."""


PATTERNS: dict[str, Pattern] = {
    "plain": Pattern(("plain", "single-coloured"), ("einfarbig", "ungemustert")),
    "stripes": Pattern(("striped", "horizontally striped"), ("gestreift", "quergestreift"), "stripes", "Streifen"),
    "lines": Pattern(("vertically striped",), ("längsgestreift",), "vertical stripes", "Längsstreifen"),
    "dots": Pattern(("dotted", "spotted"), ("gepunktet", "getupft"), "dots", "Punkten"),
    "checks": Pattern(("checked", "chequered"), ("kariert",), "checks", "Karos"),
    "flowers": Pattern(("floral", "flowery"), ("geblümt",), "flowers", "Blumen"),
}
