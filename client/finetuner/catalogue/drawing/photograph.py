"""Draws a garment like an amateur photograph: pose, background, occlusions, light, JPEG."""

from random import Random

import numpy as np
from PIL import Image, ImageFilter

from ..colours import RGB, lightened, shade, toned
from ..designs import Design
from ..image import encode_jpeg
from .backgrounds import KINDS, draw_background
from .canvas import OVERSAMPLING, Canvas, Pose, image_of
from .garments import garment_parts
from .occlusions import BEHIND, IN_FRONT, occlude
from .parts import Cut, Part
from .textures import texture

SIDE = 120
"""Width and height of an image in pixels."""


def photograph(design: Design, background: str, item_rng: Random, image_rng: Random) -> bytes:
    """Return one image of the design, as an RGB JPEG file.

    Args:
        design: of the garment.
        background: name of the background's colour.
        item_rng: draws the details that all images of the item share.
        image_rng: draws the details of this image.
    """
    side = SIDE * OVERSAMPLING
    swing = image_rng.uniform(0.1, 0.6)
    parts = garment_parts(Cut(design.garment, design.sleeve, design.length, design.fit, design.neck, swing))
    heights = [y for part in parts for _, y in part.points]
    scale = image_rng.uniform(0.39, 0.46) * (1.25 if max(heights) - min(heights) < 1.1 else 1.0)
    # Garments are centred by most of their own height. Otherwise a skirt would lie at the edge.
    middle = 0.5 - scale * 0.75 * (max(heights) + min(heights)) / 2
    pose = Pose(
        angle=image_rng.gauss(0, 0.16),
        scale=scale,
        centre=(image_rng.gauss(0.5, 0.035), image_rng.gauss(middle, 0.03)),
        mirrored=image_rng.random() < 0.5,
    )
    canvas = Canvas(draw_background(image_rng.choice(KINDS), shade(background, image_rng, 22), side, image_rng), pose)
    cloth, accent = shade(design.colour, item_rng), shade(design.accent or design.colour, item_rng)
    _drop_shadow(canvas, parts, image_rng)
    if image_rng.random() < 0.4:
        occlude(canvas, image_rng.choice(BEHIND), image_rng)
    _sew(canvas, parts, design.pattern, cloth, accent, item_rng, image_rng)
    if image_rng.random() < 0.55:
        occlude(canvas, image_rng.choice(IN_FRONT), image_rng)
    return encode_jpeg(_lit(canvas.finished(), image_rng), quality=image_rng.randint(30, 92))


def _sew(
    canvas: Canvas, parts: list[Part], pattern: str, cloth: RGB, accent: RGB, item_rng: Random, image_rng: Random
) -> None:
    """Draw the parts: fabric with folds and outline, trims, openings, seams and buttons."""
    x, y = canvas.grid()
    period, tilt = item_rng.uniform(0.24, 0.38), item_rng.choice((0.0, 0.0, 0.0, item_rng.uniform(-0.25, 0.25)))
    surface = texture(pattern, cloth, accent, x, y, period, tilt)
    # Soft folds: two slow waves, different in every image, as cloth never falls twice the same way.
    waves = 0.07 * np.sin(7 * x + 2.5 * y + image_rng.uniform(0, 6))
    waves += 0.05 * np.sin(5 * y - 3 * x + image_rng.uniform(0, 6))
    fabric = image_of(surface * (1.0 + waves)[..., None])
    # A dark seam is invisible on dark cloth, so dark cloth gets light seams.
    dark = sum(cloth) < 150
    seam = lightened(cloth, 60) if dark else toned(cloth, 0.62)
    trim, inside = toned(cloth, 1.5 if dark else 0.8), toned(cloth, 0.45)
    for part in parts:
        match part.kind:
            case "fabric":
                canvas.paint(part.points, fabric)
                canvas.line([*part.points, part.points[0]], seam, 0.022)
            case "trim":
                canvas.fill(part.points, trim)
                canvas.line([*part.points, part.points[0]], seam, 0.015)
            case "inside":
                canvas.fill(part.points, inside)
            case "seam":
                canvas.line(part.points, seam, 0.024)
            case "button":
                canvas.disc(part.points[0], 0.032, seam)


def _drop_shadow(canvas: Canvas, parts: list[Part], image_rng: Random) -> None:
    """Darken the background with the garment's blurred shadow, a little to one side."""
    shadow = Image.new("L", (canvas.side, canvas.side))
    for part in parts:
        if part.kind == "fabric":
            shadow.paste(150, mask=canvas.mask(part.points))
    small = shadow.resize((48, 48), Image.Resampling.BILINEAR).filter(ImageFilter.GaussianBlur(1.2))
    soft = small.resize((canvas.side, canvas.side), Image.Resampling.BILINEAR)
    aside = (round(image_rng.uniform(-7, 7)), round(image_rng.uniform(2, 10)))
    canvas.image.paste((0, 0, 0), aside, mask=soft)


def _lit(image: Image.Image, image_rng: Random) -> Image.Image:
    """Return the image under another light: brighter or darker, warmer or cooler."""
    brightness, warmth = image_rng.uniform(0.84, 1.12), image_rng.uniform(-0.05, 0.05)
    gains = np.array([1 + warmth, 1.0, 1 - warmth], dtype=np.float32) * brightness
    return image_of(np.asarray(image, dtype=np.float32) * gains)
