"""Parts that garments share: bodies, sleeves, collars and bands, in unit coordinates (-1 to 1, y down)."""

import math
from dataclasses import dataclass
from typing import Literal

from .canvas import Point, curve

Kind = Literal["fabric", "trim", "inside", "seam", "button"]


@dataclass(frozen=True)
class Part:
    """One part of a garment; later parts are drawn over earlier ones."""

    kind: Kind
    """`fabric` has the pattern, `trim` a plain darker tone, `inside` the dark of an opening."""
    points: list[Point]


@dataclass(frozen=True)
class Cut:
    """The shape of a garment: the attributes of its design, and its pose in one image."""

    garment: str
    sleeve: str
    length: str
    fit: str
    neck: str
    swing: float
    """Spread of the sleeves or legs, in radians; differs from image to image."""


SHOULDER_Y = -0.72
SHOULDER_X = 0.36


def mirrored(half: list[Point]) -> list[Point]:
    """Return the right half of an outline, top to bottom, closed by its mirror image."""
    return [*half, *((-x, y) for x, y in reversed(half))]


def both_sides(kind: Kind, points: list[Point]) -> list[Part]:
    """Return a part on the right, and its mirror image on the left."""
    return [Part(kind, points), Part(kind, [(-x, y) for x, y in points])]


def torso(hem_y: float, hem_x: float, waist_x: float, sleeve: str, straps: bool = False) -> list[Part]:
    """Return a torso from neck to hem, narrower at the waist."""
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
    """Return two sleeves that hang from the shoulders, none for a sleeveless garment."""
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
    made = both_sides("fabric", sleeve)
    if cuff:
        made += both_sides("trim", [at(length - 0.09, end), at(length, end), at(length, -end), at(length - 0.09, -end)])
    return made


def neckline(neck: str) -> list[Part]:
    """Return the neck: a collar, a turtleneck, a V-neck, or a round neck for any other value."""
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
            return [Part("inside", [(-0.13, top), (0.13, top), (0.0, top + 0.16)]), *both_sides("trim", flap)]
    dip = curve((-0.15, top), (0.0, top + 0.26), (0.15, top))
    return [Part("inside", dip), Part("seam", dip)]


def opening(from_y: float, to_y: float, buttons: int) -> list[Part]:
    """Return a closure down the front: buttons, or a zip for 0 buttons."""
    made = [Part("seam", [(0.0, from_y), (0.0, to_y)])]
    step = (to_y - from_y) / (buttons + 1)
    return made + [Part("button", [(0.035, from_y + step * (number + 1))]) for number in range(buttons)]


def pockets(x: float, y: float) -> list[Part]:
    """Return the slits of two pockets, around (x, y) and its mirror image."""
    return both_sides("seam", [(x - 0.08, y), (x + 0.08, y - 0.03)])


def band(y: float, x: float, height: float = 0.09) -> list[Part]:
    """Return a plain band across the body: a waistband, belt or ribbed hem."""
    return [Part("trim", mirrored([(x, y), (x, y + height)]))]


def by_fit(cut: Cut, narrow: float, usual: float, wide: float) -> float:
    """Return the measure for the fit of the garment."""
    return {"narrow": narrow, "wide": wide}.get(cut.fit, usual)
