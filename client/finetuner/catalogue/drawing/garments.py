"""The parts of each garment."""

from collections.abc import Callable

from .canvas import curve, oval
from .parts import (
    SHOULDER_Y,
    Cut,
    Part,
    band,
    both_sides,
    by_fit,
    mirrored,
    neckline,
    opening,
    pockets,
    sleeves,
    torso,
)


def garment_parts(cut: Cut) -> list[Part]:
    """Return the parts of a garment in drawing order.

    Raises:
        KeyError: a garment without parts.
    """
    return _PARTS[cut.garment](cut)


def _top(cut: Cut) -> list[Part]:
    hem = by_fit(cut, 0.3, 0.35, 0.44)
    body = torso(0.5, hem, by_fit(cut, 0.28, 0.33, 0.38), cut.sleeve, straps=cut.garment == "tank top")
    return sleeves(cut) + body + neckline(cut.neck)


def _sweater(cut: Cut) -> list[Part]:
    hem = by_fit(cut, 0.32, 0.37, 0.46)
    made = sleeves(cut, 0.145, cuff=True) + torso(0.48, hem, hem - 0.02, cut.sleeve)
    return made + band(0.44, hem, 0.1) + neckline(cut.neck)


def _hoodie(cut: Cut) -> list[Part]:
    hood = [
        Part("trim", oval((0.0, SHOULDER_Y - 0.1), 0.27, 0.2)),
        Part("inside", oval((0.0, SHOULDER_Y - 0.07), 0.17, 0.12)),
    ]
    hem = by_fit(cut, 0.33, 0.37, 0.46)
    pocket = [Part("seam", [(-0.2, 0.4), (-0.13, 0.12), (0.13, 0.12), (0.2, 0.4)])]
    cords = both_sides("seam", [(0.05, SHOULDER_Y + 0.06), (0.06, -0.42)])
    made = sleeves(cut, 0.15, cuff=True) + torso(0.48, hem, hem - 0.02, cut.sleeve)
    return made + hood + band(0.44, hem, 0.1) + pocket + cords


def _shirt(cut: Cut) -> list[Part]:
    hem = by_fit(cut, 0.31, 0.36, 0.43)
    made = sleeves(cut, cuff=cut.sleeve == "long") + torso(0.55, hem, hem - 0.05, cut.sleeve)
    return (
        made
        + opening(-0.6, 0.56, 5)
        + neckline("collar")
        + [Part("seam", [(0.1, -0.3), (0.24, -0.3), (0.24, -0.14), (0.1, -0.14), (0.1, -0.3)])]
    )


def _cardigan(cut: Cut) -> list[Part]:
    hem = by_fit(cut, 0.32, 0.37, 0.45)
    made = sleeves(cut, 0.14, cuff=True) + torso(0.55, hem, hem - 0.02, cut.sleeve)
    deep = [(-0.16, SHOULDER_Y - 0.06), (0.16, SHOULDER_Y - 0.06), (0.0, -0.1)]
    edge = [Part("inside", deep), Part("seam", [deep[0], deep[2], deep[1]])]
    return made + band(0.5, hem, 0.1) + edge + opening(-0.1, 0.58, 3)


def _jacket(cut: Cut) -> list[Part]:
    hem = by_fit(cut, 0.34, 0.38, 0.45)
    made = sleeves(cut, 0.15, cuff=True) + torso(0.38, hem, hem, cut.sleeve)
    return made + band(0.35, hem, 0.09) + opening(-0.65, 0.42, 0) + neckline("collar") + pockets(0.2, 0.12)


def _coat(cut: Cut) -> list[Part]:
    hem_y = {"short": 0.5, "knee": 0.78}.get(cut.length, 1.02)
    hem = by_fit(cut, 0.36, 0.43, 0.54)
    lapels = both_sides("trim", [(0.12, SHOULDER_Y - 0.1), (0.22, -0.55), (0.17, -0.42), (0.0, -0.2), (0.02, -0.3)])
    made = sleeves(cut, 0.15) + torso(hem_y, hem, 0.34, cut.sleeve) + band(0.0, 0.335, 0.08)
    neck = [Part("inside", [(-0.13, SHOULDER_Y - 0.07), (0.13, SHOULDER_Y - 0.07), (0.0, -0.22)])]
    return made + neck + lapels + opening(-0.2, hem_y, 4) + pockets(0.22, 0.28)


def _vest(_: Cut) -> list[Part]:
    made = torso(0.36, 0.33, 0.3, "sleeveless")
    deep = [(-0.2, SHOULDER_Y - 0.06), (0.2, SHOULDER_Y - 0.06), (0.0, -0.15)]
    edge = [Part("inside", deep), Part("seam", [deep[0], deep[2], deep[1]])]
    points = [Part("trim", [(-0.12, 0.36), (0.12, 0.36), (0.0, 0.47)])]
    return made + edge + points + opening(-0.15, 0.42, 3) + pockets(0.17, 0.2)


def _dress(cut: Cut) -> list[Part]:
    hem_y = {"short": 0.5, "knee": 0.78}.get(cut.length, 1.05)
    hem = by_fit(cut, 0.3, 0.46, 0.68)
    skirt = mirrored(
        [
            (0.27, -0.02),
            *curve((0.3, 0.08), (hem * 0.75, hem_y * 0.5), (hem, hem_y)),
            (hem * 0.5, hem_y + 0.04),
        ]
    )
    folds = both_sides("seam", [(0.12, 0.15), (hem * 0.45, hem_y - 0.03)]) if cut.fit == "wide" else []
    made = sleeves(cut) + torso(0.04, 0.27, 0.27, cut.sleeve, straps=cut.sleeve == "sleeveless")
    return [*made, Part("fabric", skirt), *folds, *band(-0.04, 0.275, 0.06), *neckline(cut.neck)]


def _skirt(cut: Cut) -> list[Part]:
    hem_y = {"short": 0.12, "knee": 0.45}.get(cut.length, 0.85)
    hem = by_fit(cut, 0.36, 0.55, 0.8)
    side = curve((0.32, -0.55), (0.44, -0.4), (hem, hem_y))
    made = [Part("fabric", mirrored([(0.3, -0.6), *side, (hem * 0.5, hem_y + 0.05)]))]
    if cut.fit == "wide":
        made += [*both_sides("seam", [(0.12, -0.5), (hem * 0.4, hem_y)]), Part("seam", [(0.0, -0.5), (0.0, hem_y)])]
    return made + band(-0.66, 0.31, 0.1)


def _legs(cut: Cut, top_y: float, hem_y: float, hem: float) -> list[Part]:
    """Return two trouser legs from the hips."""
    spread = 0.06 + cut.swing * 0.25
    inner = (0.03 + spread, hem_y)
    leg = [
        (0.0, top_y),
        (0.31, top_y),
        (0.37, top_y + 0.28),
        (inner[0] + hem, hem_y),
        inner,
        (0.0, top_y + 0.42),
    ]
    return both_sides("fabric", leg)


def _trousers(cut: Cut) -> list[Part]:
    hem_y = {"cropped": 0.6}.get(cut.length, 0.98)
    made = _legs(cut, -0.78, hem_y, by_fit(cut, 0.17, 0.25, 0.4))
    return made + band(-0.84, 0.315, 0.09) + [Part("seam", [(0.0, -0.75), (0.0, -0.4)])] + pockets(0.24, -0.6)


def _shorts(cut: Cut) -> list[Part]:
    made = _legs(cut, -0.45, 0.24, by_fit(cut, 0.3, 0.35, 0.45))
    return made + band(-0.52, 0.315, 0.1) + [Part("seam", [(0.0, -0.42), (0.0, -0.05)])] + pockets(0.24, -0.28)


def _jumpsuit(cut: Cut) -> list[Part]:
    legs = _legs(cut, -0.02, 1.02, by_fit(cut, 0.17, 0.25, 0.38))
    made = sleeves(cut) + torso(0.05, 0.3, 0.28, cut.sleeve, straps=cut.sleeve == "sleeveless")
    return legs + made + band(-0.04, 0.3, 0.08) + neckline(cut.neck)


_PARTS: dict[str, Callable[[Cut], list[Part]]] = {
    "t-shirt": _top,
    "tank top": _top,
    "shirt": _shirt,
    "sweater": _sweater,
    "hoodie": _hoodie,
    "cardigan": _cardigan,
    "jacket": _jacket,
    "coat": _coat,
    "vest": _vest,
    "dress": _dress,
    "skirt": _skirt,
    "trousers": _trousers,
    "shorts": _shorts,
    "jumpsuit": _jumpsuit,
}
