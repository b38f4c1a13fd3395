"""Draws a scene of shapes as a JPEG."""

import math
from random import Random

from ..colours import shade
from ..image import encode_jpeg
from ..scenes import FORMS, Scene
from .backgrounds import KINDS, draw_background
from .canvas import OVERSAMPLING, Canvas, Point, Pose, image_of, oval
from .textures import texture

SIDE = 80
"""Width and height of an image in pixels."""


def draw(scene: Scene, rng: Random) -> bytes:
    """Return the scene as a JPEG file; `rng` draws every detail that no caption mentions."""
    side = SIDE * OVERSAMPLING
    image = draw_background(rng.choice(KINDS), shade(scene.background, rng), side, rng)
    colour, accent = shade(scene.colour, rng), shade(scene.accent or scene.colour, rng)
    period, tilt = rng.uniform(0.11, 0.19), rng.gauss(0, 0.12)
    points = outline(scene.form, *_proportions(scene, rng))
    for pose in _poses(scene, rng):
        canvas = Canvas(image, pose)
        # The motif has the same size on every shape: a small dotted circle has fewer dots, not smaller ones.
        x, y = canvas.grid()
        canvas.paint(points, image_of(texture(scene.pattern, colour, accent, x, y, period / pose.scale, tilt)))
        if scene.form == "ring":
            canvas.fill(oval((0, 0), 0.45, 0.45), shade(scene.background, rng, 4))
        image = canvas.image
    return encode_jpeg(image.reduce(OVERSAMPLING), quality=rng.randint(45, 95))


def outline(form: str, width: float, height: float) -> list[Point]:
    """Return the form as a polygon of the given half width and half height."""
    match form:
        case "circle" | "ring":
            points = oval((0, 0), 1, 1)
        case "square":
            points = [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
        case "rectangle":
            points = [(-0.95, -0.6), (0.95, -0.6), (0.95, 0.6), (-0.95, 0.6)]
        case "triangle":
            points = [(0, -1), (0.95, 0.8), (-0.95, 0.8)]
        case "diamond":
            points = [(0, -1), (0.75, 0), (0, 1), (-0.75, 0)]
        case "hexagon":
            points = oval((0, 0), 1, 1, steps=6)
        case "cross":
            a, b = 0.34, 0.95
            points = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)]
            points += [(-x, -y) for x, y in points]
        case "star":
            turns = [math.pi * step / 5 - math.pi / 2 for step in range(10)]
            radii = [1.05 if step % 2 == 0 else 0.45 for step in range(10)]
            points = [(r * math.cos(t), r * math.sin(t)) for r, t in zip(radii, turns, strict=True)]
        case "heart":
            turns = [2 * math.pi * step / 40 for step in range(40)]
            points = [
                (math.sin(t) ** 3, 0.1 - (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t)) / 16)
                for t in turns
            ]
        case _:
            raise ValueError(f"form must be one of {', '.join(FORMS)}. Got {form!r}. Choose one of them.")
    return [(x * width, y * height) for x, y in points]


def _proportions(scene: Scene, rng: Random) -> tuple[float, float]:
    """Return half the width and half the height, before the pose scales them."""
    slim, stout = rng.uniform(0.42, 0.55), rng.uniform(1.05, 1.2)
    match scene.stretch:
        case "long":
            return rng.uniform(0.6, 0.75), 1.3
        case "short":
            return rng.uniform(0.9, 1.0), slim
        case "wide":
            return 1.3, rng.uniform(0.7, 0.85)
        case "narrow":
            return slim * 0.85, stout * 0.9
    return 1.0, 1.0


def _poses(scene: Scene, rng: Random) -> list[Pose]:
    """Return one pose per shape; several shapes lie side by side."""
    scale = {"": 0.32, "small": 0.23, "large": 0.4}[scene.size] * rng.uniform(0.92, 1.08)
    scale *= {1: 1.0, 2: 0.68, 3: 0.48}[scene.count]
    dx, dy = {"": (0, 0), "left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}[scene.position]
    poses = []
    for number in range(scene.count):
        offset = (number - (scene.count - 1) / 2) * 0.92 / scene.count
        x = 0.5 + offset + 0.2 * dx + rng.gauss(0, 0.03)
        y = 0.5 + 0.2 * dy + rng.gauss(0, 0.04)
        poses.append(Pose(angle=rng.gauss(0, 0.13), scale=scale, centre=(x, y)))
    return poses
