"""A canvas in unit coordinates: one pose maps points and textures to pixels."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..colours import RGB

Point = tuple[float, float]
Field = NDArray[np.float32]
OVERSAMPLING = 2


@dataclass(frozen=True)
class Pose:
    """Position of a drawing: maps unit coordinates (-1 to 1, y down) to fractions of the image's side."""

    angle: float = 0.0
    """Rotation in radians, clockwise."""
    scale: float = 0.5
    """Length of one unit as a fraction of the image's side."""
    centre: Point = (0.5, 0.5)
    """Position of the unit square's middle, as fractions of the side."""
    mirrored: bool = False
    """Whether left and right are swapped before the rotation."""


class Canvas:
    """An RGB image under construction, `OVERSAMPLING` times its final size."""

    def __init__(self, background: Image.Image, pose: Pose) -> None:
        self.image = background
        self.side = background.width
        self.pose = pose
        self._cos, self._sin = math.cos(pose.angle), math.sin(pose.angle)
        self._flip = -1.0 if pose.mirrored else 1.0

    def pixels(self, points: list[Point]) -> list[Point]:
        """Convert unit coordinates to pixels of the canvas."""
        unit = self.pose.scale * self.side
        left, top = self.pose.centre[0] * self.side, self.pose.centre[1] * self.side
        return [
            (
                left + unit * (self._cos * x * self._flip - self._sin * y),
                top + unit * (self._sin * x * self._flip + self._cos * y),
            )
            for x, y in points
        ]

    def grid(self) -> tuple[Field, Field]:
        """Return the unit coordinates of every pixel: x and y, each (side, side) float32."""
        unit = self.pose.scale * self.side
        along = (np.arange(self.side, dtype=np.float32) + 0.5) / unit
        x = along[None, :] - self.pose.centre[0] / self.pose.scale
        y = along[:, None] - self.pose.centre[1] / self.pose.scale
        right, down = (self._cos * x + self._sin * y) * self._flip, self._cos * y - self._sin * x
        return right.astype(np.float32), down.astype(np.float32)

    def mask(self, points: list[Point]) -> Image.Image:
        """Return the polygon as an 8-bit mask of the canvas's size."""
        mask = Image.new("L", (self.side, self.side))
        ImageDraw.Draw(mask).polygon(self.pixels(points), fill=255)
        return mask

    def paint(self, points: list[Point], texture: Image.Image) -> None:
        """Fill the polygon with a texture, an RGB image of the canvas's size."""
        self.image.paste(texture, mask=self.mask(points))

    def fill(self, points: list[Point], colour: RGB) -> None:
        """Fill the polygon with one colour."""
        ImageDraw.Draw(self.image).polygon(self.pixels(points), fill=colour)

    def line(self, points: list[Point], colour: RGB, width: float) -> None:
        """Draw a line through the points; `width` is in units."""
        pixels = max(1, round(width * self.pose.scale * self.side))
        ImageDraw.Draw(self.image).line(self.pixels(points), fill=colour, width=pixels, joint="curve")

    def disc(self, centre: Point, radius: float, colour: RGB) -> None:
        """Draw a filled disc; `radius` is in units."""
        (x, y), r = self.pixels([centre])[0], radius * self.pose.scale * self.side
        ImageDraw.Draw(self.image).ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def finished(self) -> Image.Image:
        """Return the image at its final size."""
        return self.image.reduce(OVERSAMPLING)


def image_of(values: NDArray[Any]) -> Image.Image:
    """Return an RGB image of (height, width, 3) numbers, clipped to 0 to 255."""
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def curve(start: Point, control: Point, end: Point, steps: int = 8) -> list[Point]:
    """Return a quadratic Bézier curve as `steps + 1` points."""
    points = []
    for step in range(steps + 1):
        t = step / steps
        a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t**2
        points.append((a * start[0] + b * control[0] + c * end[0], a * start[1] + b * control[1] + c * end[1]))
    return points


def oval(centre: Point, width: float, height: float, steps: int = 28) -> list[Point]:
    """Return an ellipse as a polygon; `width` and `height` are its half axes."""
    turns = (2 * math.pi * step / steps for step in range(steps))
    return [(centre[0] + width * math.cos(turn), centre[1] + height * math.sin(turn)) for turn in turns]
