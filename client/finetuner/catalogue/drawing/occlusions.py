"""Occlusions: objects that hold or cover part of a garment."""

from random import Random

from ..colours import COLOURS, RGB, shade, toned
from .canvas import Canvas, Point, curve, oval

BEHIND = ("hanger", "peg")
"""Occlusions behind the garment, drawn first."""
IN_FRONT = ("hand", "price tag", "bag strap", "leaf", "scarf", "cup")
"""Occlusions in front of the garment, drawn last."""
_SKINS: tuple[RGB, ...] = ((250, 214, 186), (226, 178, 142), (178, 122, 84), (112, 72, 48))
_WOOD: RGB = (158, 112, 66)


def occlude(canvas: Canvas, occlusion: str, rng: Random) -> None:
    """Draw an occlusion onto the canvas.

    Raises:
        ValueError: a name in neither BEHIND nor IN_FRONT.
    """
    match occlusion:
        case "hanger":
            canvas.line([(-0.4, -0.66), (0.0, -0.86), (0.4, -0.66)], _WOOD, 0.07)
            canvas.line(
                [(0.0, -0.86), (0.0, -0.98), *curve((0.0, -0.98), (0.14, -1.04), (0.07, -1.14), 5)],
                (90, 90, 96),
                0.035,
            )
        case "peg":
            canvas.line([(-1.9, -0.84), (1.9, -0.8)], (90, 90, 96), 0.03)
        case "hand":
            _hand(canvas, rng)
        case "price tag":
            _price_tag(canvas, rng)
        case "bag strap":
            x, lean = rng.uniform(-0.4, 0.4), rng.uniform(-0.6, 0.6)
            leather = toned(shade(rng.choice(("brown", "black", "beige")), rng), 0.9)
            canvas.line([(x - lean, -1.5), (x + lean, 1.6)], toned(leather, 0.7), 0.15)
            canvas.line([(x - lean, -1.5), (x + lean, 1.6)], leather, 0.11)
        case "leaf":
            _leaf(canvas, rng)
        case "scarf":
            cloth = shade(rng.choice(list(COLOURS)), rng)
            canvas.line(curve((-0.24, -0.72), (0.0, -0.42), (0.24, -0.72)), toned(cloth, 0.8), 0.17)
            end = rng.uniform(-0.2, 0.3)
            canvas.fill([(0.0, -0.66), (0.17, -0.68), (0.24, end), (0.06, end + 0.02)], cloth)
            for number in range(5):
                x = 0.075 + number * 0.037
                canvas.line([(x, end), (x + 0.01, end + 0.09)], toned(cloth, 0.8), 0.02)
        case "cup":
            x, y = rng.choice((-1, 1)) * rng.uniform(0.35, 0.6), rng.uniform(0.3, 0.8)
            canvas.disc((x, y), 0.22, (236, 234, 230))
            canvas.disc((x, y), 0.18, (92, 58, 34))
        case _:
            raise ValueError(
                f"occlusion must be one of {', '.join(BEHIND + IN_FRONT)}. Got {occlusion!r}. Choose one of them."
            )


def _hand(canvas: Canvas, rng: Random) -> None:
    """Draw a hand that reaches in from the right or left, its fingers over the garment."""
    skin, side = rng.choice(_SKINS), rng.choice((-1, 1))
    reach, y = rng.uniform(0.2, 0.38), rng.uniform(-0.5, 0.5)

    def over(x: float, dy: float) -> Point:
        return side * x, y + dy

    canvas.line([over(0.75, 0.06), over(2.2, 0.5)], skin, 0.24)
    palm = [(side * px, y + py) for px, py in oval((0.68, 0.02), 0.2, 0.18)]
    canvas.fill(palm, skin)
    for finger in range(4):
        dy = -0.13 + finger * 0.085
        tip = reach + 0.05 * abs(finger - 1)
        canvas.line([over(0.65, dy), over(tip, dy)], toned(skin, 0.82), 0.1)
        canvas.line([over(0.65, dy), over(tip, dy)], skin, 0.075)
        canvas.disc(over(tip, dy), 0.038, skin)


def _price_tag(canvas: Canvas, rng: Random) -> None:
    x, y = rng.uniform(-0.25, 0.25), rng.uniform(-0.3, 0.3)
    paper = rng.choice(((250, 248, 240), (236, 216, 160), (238, 90, 80)))
    canvas.line([(x, y - 0.3), (x, y)], (240, 240, 240), 0.02)
    canvas.fill(
        [(x - 0.13, y + 0.08), (x, y - 0.04), (x + 0.13, y + 0.08), (x + 0.13, y + 0.4), (x - 0.13, y + 0.4)],
        paper,
    )
    canvas.disc((x, y + 0.05), 0.025, (60, 60, 60))
    for number in range(3):
        canvas.line([(x - 0.08, y + 0.17 + number * 0.08), (x + 0.08, y + 0.17 + number * 0.08)], (70, 70, 70), 0.025)


def _leaf(canvas: Canvas, rng: Random) -> None:
    """Draw a leaf of a pot plant that hangs in from one side."""
    green, side = shade(rng.choice(("green", "dark green")), rng), rng.choice((-1, 1))
    y = rng.uniform(-0.7, 0.9)
    tip: Point = (side * rng.uniform(0.05, 0.3), y)
    root: Point = (side * 1.5, y + 0.5)
    blade = curve(root, (side * 0.8, y - 0.35), tip) + curve(tip, (side * 0.7, y + 0.4), root)
    canvas.fill(blade, green)
    canvas.line([root, tip], toned(green, 0.7), 0.025)
