"""Names of garments and their attributes in English and German."""

from .german import Gender

ENGLISH: dict[str, tuple[str, ...]] = {
    "t-shirt": ("t-shirt", "tee"),
    "tank top": ("tank top", "strap top"),
    "shirt": ("shirt", "button-up shirt"),
    "sweater": ("sweater", "pullover", "jumper"),
    "hoodie": ("hoodie", "hooded sweatshirt"),
    "cardigan": ("cardigan", "knitted jacket"),
    "jacket": ("jacket", "blouson"),
    "coat": ("coat", "overcoat"),
    "vest": ("vest", "waistcoat"),
    "dress": ("dress", "gown"),
    "skirt": ("skirt",),
    "trousers": ("trousers", "pants"),
    "shorts": ("shorts",),
    "jumpsuit": ("jumpsuit", "overall"),
}
ENGLISH_PLURALS = ("trousers", "shorts")

GERMAN: dict[str, tuple[tuple[str, Gender], ...]] = {
    "t-shirt": (("T-Shirt", "n"), ("Shirt", "n")),
    "tank top": (("Top", "n"), ("Trägertop", "n")),
    "shirt": (("Hemd", "n"), ("Knopfhemd", "n")),
    "sweater": (("Pullover", "m"), ("Pulli", "m")),
    "hoodie": (("Kapuzenpullover", "m"), ("Hoodie", "m")),
    "cardigan": (("Strickjacke", "f"), ("Cardigan", "m")),
    "jacket": (("Jacke", "f"), ("Blouson", "m")),
    "coat": (("Mantel", "m"), ("Überzieher", "m")),
    "vest": (("Weste", "f"), ("Anzugweste", "f")),
    "dress": (("Kleid", "n"),),
    "skirt": (("Rock", "m"),),
    "trousers": (("Hose", "f"),),
    "shorts": (("Shorts", "pl"), ("Bermudas", "pl")),
    "jumpsuit": (("Overall", "m"), ("Jumpsuit", "m"), ("Einteiler", "m")),
}

# Compounds name an attribute in the noun: (garment, attribute value) -> noun.
ENGLISH_COMPOUNDS: dict[tuple[str, str], str] = {
    ("skirt", "short"): "miniskirt",
    ("dress", "short"): "mini dress",
    ("skirt", "long"): "maxi skirt",
    ("dress", "long"): "maxi dress",
}
GERMAN_COMPOUNDS: dict[tuple[str, str], tuple[str, Gender]] = {
    ("skirt", "short"): ("Minirock", "m"),
    ("skirt", "long"): ("Maxirock", "m"),
    ("dress", "short"): ("Minikleid", "n"),
    ("dress", "long"): ("Maxikleid", "n"),
    ("coat", "short"): ("Kurzmantel", "m"),
    ("trousers", "cropped"): ("Dreiviertelhose", "f"),
    ("t-shirt", "long-sleeved"): ("Langarmshirt", "n"),
    ("shirt", "long-sleeved"): ("Langarmhemd", "n"),
    ("shirt", "short-sleeved"): ("Kurzarmhemd", "n"),
}

# English adjectives and German adjective stems of every attribute value.
SLEEVES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sleeveless": (("sleeveless",), ("ärmellos",)),
    "short": (("short-sleeved",), ("kurzärmelig",)),
    "long": (("long-sleeved",), ("langärmelig",)),
}
LENGTHS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "short": (("short",), ("kurz",)),
    "knee": (("knee-length",), ("knielang",)),
    "cropped": (("cropped", "ankle-length"), ("verkürzt", "knöchellang")),
    "long": (("long", "floor-length"), ("lang", "bodenlang")),
}
FITS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "narrow": (("narrow", "slim", "fitted"), ("schmal", "eng", "tailliert")),
    "wide": (("wide", "loose"), ("weit", "locker")),
}
# English and German phrases that follow "with" and "mit".
NECKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "round": (("a round neck", "a crew neck"), ("rundem Ausschnitt", "Rundhalsausschnitt")),
    "v": (("a V-neck", "a V-shaped neckline"), ("V-Ausschnitt",)),
    "turtle": (("a turtleneck", "a roll neck"), ("Rollkragen", "Stehkragen")),
}
