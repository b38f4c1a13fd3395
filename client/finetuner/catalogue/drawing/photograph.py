"""An image of one garment as somebody might have taken it: pose, ground, things in the way, light, JPEG."""

from random import Random

import numpy as np
from PIL import Image, ImageFilter

from finetuner.catalogue.colours import RGB, lightened, shade, toned
from finetuner.catalogue.designs import Design
from finetuner.catalogue.drawing.backgrounds import KINDS, background
from finetuner.catalogue.drawing.canvas import OVERSAMPLING, Canvas, Pose, image_of
from finetuner.catalogue.drawing.garments import parts
from finetuner.catalogue.drawing.occlusions import BEHIND, IN_FRONT, occlude
from finetuner.catalogue.drawing.patterns import texture
from finetuner.catalogue.drawing.pieces import Cut, Part
from finetuner.catalogue.image import encode_jpeg

SIDE = 120
"""Width and height of an image in pixels."""


def photograph(design: Design, ground: str, make: Random, look: Random) -> bytes:
    """One image of the design before a ground of the named colour, as an RGB JPEG file.

    ``make`` decides what belongs to the item and ``look`` what belongs to this image.
    """
    side = SIDE * OVERSAMPLING
    swing = look.uniform(0.1, 0.6)
    pieces = parts(Cut(design.garment, design.sleeve, design.length, design.fit, design.neck, swing))
    heights = [y for piece in pieces for _, y in piece.points]
    scale = look.uniform(0.39, 0.46) * (1.25 if max(heights) - min(heights) < 1.1 else 1.0)
    # Most of the way to the middle of the garment's own height: a skirt must not hang at the edge.
    middle = 0.5 - scale * 0.75 * (max(heights) + min(heights)) / 2
    pose = Pose(
        angle=look.gauss(0, 0.16),
        scale=scale,
        centre=(look.gauss(0.5, 0.035), look.gauss(middle, 0.03)),
        mirrored=look.random() < 0.5,
    )
    canvas = Canvas(background(look.choice(KINDS), shade(ground, look, 22), side, look), pose)
    cloth, accent = shade(design.colour, make), shade(design.accent or design.colour, make)
    _drop_shadow(canvas, pieces, look)
    if look.random() < 0.4:
        occlude(canvas, look.choice(BEHIND), look)
    _sew(canvas, pieces, design.pattern, cloth, accent, make, look)
    if look.random() < 0.55:
        occlude(canvas, look.choice(IN_FRONT), look)
    return encode_jpeg(_lit(canvas.finished(), look), quality=look.randint(30, 92))


def _sew(canvas: Canvas, pieces: list[Part], pattern: str, cloth: RGB, accent: RGB, make: Random, look: Random) -> None:
    """Draws the pieces: fabric with folds and outline, trims, openings, seams and buttons."""
    x, y = canvas.grid()
    period, tilt = make.uniform(0.24, 0.38), make.choice((0.0, 0.0, 0.0, make.uniform(-0.25, 0.25)))
    surface = texture(pattern, cloth, accent, x, y, period, tilt)
    # Soft folds: two slow waves, different in every image, as cloth never hangs twice the same way.
    waves = 0.07 * np.sin(7 * x + 2.5 * y + look.uniform(0, 6))
    waves += 0.05 * np.sin(5 * y - 3 * x + look.uniform(0, 6))
    fabric = image_of(surface * (1.0 + waves)[..., None])
    # A dark seam vanishes on dark cloth, so dark cloth gets lighter ones.
    dark = sum(cloth) < 150
    seam = lightened(cloth, 60) if dark else toned(cloth, 0.62)
    trim, inside = toned(cloth, 1.5 if dark else 0.8), toned(cloth, 0.45)
    for piece in pieces:
        match piece.kind:
            case "fabric":
                canvas.paint(piece.points, fabric)
                canvas.line([*piece.points, piece.points[0]], seam, 0.022)
            case "trim":
                canvas.fill(piece.points, trim)
                canvas.line([*piece.points, piece.points[0]], seam, 0.015)
            case "inside":
                canvas.fill(piece.points, inside)
            case "seam":
                canvas.line(piece.points, seam, 0.024)
            case "button":
                canvas.disc(piece.points[0], 0.032, seam)


def _drop_shadow(canvas: Canvas, pieces: list[Part], look: Random) -> None:
    """Darkens the ground where the garment's shadow falls, blurred and a little aside."""
    shadow = Image.new("L", (canvas.side, canvas.side))
    for piece in pieces:
        if piece.kind == "fabric":
            shadow.paste(150, mask=canvas.mask(piece.points))
    small = shadow.resize((48, 48), Image.Resampling.BILINEAR).filter(ImageFilter.GaussianBlur(1.2))
    soft = small.resize((canvas.side, canvas.side), Image.Resampling.BILINEAR)
    aside = (round(look.uniform(-7, 7)), round(look.uniform(2, 10)))
    canvas.image.paste((0, 0, 0), aside, mask=soft)


def _lit(image: Image.Image, look: Random) -> Image.Image:
    """The image under another light: brighter or darker, warmer or cooler."""
    brightness, warmth = look.uniform(0.84, 1.12), look.uniform(-0.05, 0.05)
    gains = np.array([1 + warmth, 1.0, 1 - warmth], dtype=np.float32) * brightness
    return image_of(np.asarray(image, dtype=np.float32) * gains)
