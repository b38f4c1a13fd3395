"""What garments are made of: bodies, sleeves, collars and bands, in unit coordinates (-1 to 1, y down)."""

import math
from dataclasses import dataclass
from typing import Literal

from finetuner.catalogue.drawing.canvas import Point, curve

Kind = Literal["fabric", "trim", "inside", "seam", "button"]


@dataclass(frozen=True)
class Part:
    """One piece of a garment; pieces are drawn in order, later ones on top."""

    kind: Kind
    """``fabric`` carries the pattern, ``trim`` a darker plain tone, ``inside`` the dark of an opening."""
    points: list[Point]


@dataclass(frozen=True)
class Cut:
    """What of a design decides its shape, and how it happens to hang in one image."""

    garment: str
    sleeve: str
    length: str
    fit: str
    neck: str
    swing: float
    """How far the sleeves or legs spread, radians; differs from image to image."""


SHOULDER_Y = -0.72
SHOULDER_X = 0.36


def mirrored(half: list[Point]) -> list[Point]:
    """The right half of an outline, top to bottom, closed by its mirror image."""
    return [*half, *((-x, y) for x, y in reversed(half))]


def both(kind: Kind, points: list[Point]) -> list[Part]:
    """The same piece on the right and, mirrored, on the left."""
    return [Part(kind, points), Part(kind, [(-x, y) for x, y in points])]


def torso(hem_y: float, hem_x: float, waist_x: float, sleeve: str, straps: bool = False) -> list[Part]:
    """A torso from neck to hem, curved in at the waist."""
    shoulder_x = 0.27 if straps else SHOULDER_X - (0.05 if sleeve == "sleeveless" else 0.0)
    armpit = (0.33 if straps else 0.34, -0.34)
    side = curve(armpit, (waist_x - 0.03, 0.0), (hem_x, hem_y))
    half = [
        (0.15, SHOULDER_Y - 0.06),
        (shoulder_x, SHOULDER_Y),
        *curve((shoulder_x, SHOULDER_Y), (0.27, -0.45), armpit, 5),
    ]
    bottom = curve((hem_x, hem_y), (0.0, hem_y + 0.06), (-hem_x, hem_y))
    right = half + side
    return [Part("fabric", [*right, *bottom, *((-x, y) for x, y in reversed(right))])]


def sleeves(cut: Cut, width: float = 0.125, cuff: bool = False) -> list[Part]:
    """Two sleeves hanging from the shoulders; none when sleeveless."""
    if cut.sleeve == "sleeveless":
        return []
    length = 0.4 if cut.sleeve == "short" else 1.02
    turn = cut.swing + (0.25 if cut.sleeve == "short" else 0.0)
    along, across = (math.sin(turn), math.cos(turn)), (math.cos(turn), -math.sin(turn))
    top, end = width, width * (0.95 if cut.sleeve == "short" else 0.72)
    x, y = SHOULDER_X - 0.09, SHOULDER_Y + 0.1

    def at(distance: float, aside: float) -> Point:
        return x + along[0] * distance + across[0] * aside, y + along[1] * distance + across[1] * aside

    sleeve = [
        at(-0.06, top * 0.8),
        at(0.08, top * 1.05),
        at(length, end),
        at(length, -end),
        at(0.1, -top),
        at(-0.05, -top),
    ]
    made = both("fabric", sleeve)
    if cuff:
        made += both("trim", [at(length - 0.09, end), at(length, end), at(length, -end), at(length - 0.09, -end)])
    return made


def neckline(neck: str) -> list[Part]:
    """The opening at the neck: round, V, or a turtleneck that closes it."""
    top = SHOULDER_Y - 0.07
    match neck:
        case "v":
            return [
                Part("inside", [(-0.15, top), (0.15, top), (0.0, -0.4)]),
                Part("seam", [(-0.15, top), (0.0, -0.4), (0.15, top)]),
            ]
        case "turtle":
            return [Part("trim", mirrored([(0.12, top - 0.13), (0.15, top + 0.03)]))]
        case "collar":
            flap = [(0.1, top - 0.07), (0.16, top), (0.13, top + 0.22), (0.0, top + 0.14)]
            return [Part("inside", [(-0.13, top), (0.13, top), (0.0, top + 0.16)]), *both("trim", flap)]
    dip = curve((-0.15, top), (0.0, top + 0.26), (0.15, top))
    return [Part("inside", dip), Part("seam", dip)]


def opening(from_y: float, to_y: float, buttons: int) -> list[Part]:
    """A closure down the front; buttons, or a zip when there are none."""
    made = [Part("seam", [(0.0, from_y), (0.0, to_y)])]
    step = (to_y - from_y) / (buttons + 1)
    return made + [Part("button", [(0.035, from_y + step * (number + 1))]) for number in range(buttons)]


def pockets(x: float, y: float) -> list[Part]:
    """The slits of two pockets around (x, y) and its mirror image."""
    return both("seam", [(x - 0.08, y), (x + 0.08, y - 0.03)])


def band(y: float, x: float, height: float = 0.09) -> list[Part]:
    """A plain band across the body: a waistband, a belt, a ribbed hem."""
    return [Part("trim", mirrored([(x, y), (x, y + height)]))]


def by_fit(cut: Cut, narrow: float, usual: float, wide: float) -> float:
    """The measure that the fit asks for."""
    return {"narrow": narrow, "wide": wide}.get(cut.fit, usual)
