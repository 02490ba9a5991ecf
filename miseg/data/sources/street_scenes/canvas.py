"""The canvas that a street scene is laid out on, seen through a pinhole camera.

World coordinates are metres: X to the right of the camera, Y above the ground, Z ahead. What is drawn is not colours
but the numbers of surfaces; a table says of each surface its class and its looks. So image and mask come from one
drawing and agree to the pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from random import Random

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[float, float, float]
Point = tuple[float, float]

NEAR = 1.2


class Kind(IntEnum):
    """Kinds of surfaces; the kind decides the texture."""

    PLAIN = 0
    SKY = 1
    ROAD = 2
    PAVEMENT = 3
    SIDE_WALL = 4
    FRONT_WALL = 5
    FOLIAGE = 6
    RAILING = 7
    SHINY = 8


@dataclass(frozen=True)
class Camera:
    """Pinhole camera: focal length, vanishing point (pixels) and height above the ground (metres)."""

    focal: float
    vx: float
    vy: float
    height: float

    def project(self, x: float, y: float, z: float) -> Point:
        """Pixel (column, row) of a world point; points behind the near plane are moved onto it."""
        scale = self.focal / max(z, NEAR)
        return self.vx + x * scale, self.vy + (self.height - y) * scale

    def pixels(self, metres: float, z: float) -> float:
        """Length on the picture of `metres` at distance z."""
        return self.focal * metres / max(z, NEAR)


@dataclass
class Surface:
    """Class and looks of everything drawn under one number.

    Attributes:
        label: class, or 255 where the scene is unlabelled.
        colour: red, green, blue in 0..1 before light.
        kind: which texture.
        distance: X of a side wall or railing, Z of everything else, in metres.
        period: spacing of windows or pickets in metres.
        phase: shift of the texture in metres.
        glass: share of a wall that is window, 0..1.
        rim: whether its outline against other classes is unlabelled.
    """

    label: int
    colour: Colour
    kind: Kind = Kind.PLAIN
    distance: float = 30.0
    period: float = 3.0
    phase: float = 0.0
    glass: float = 0.0
    rim: bool = False


@dataclass
class Canvas:
    """Numbers of surfaces, drawn from far to near.

    Attributes:
        height: pixels.
        width: pixels.
        camera: how the world falls on it.
        random: layout's random numbers.
        noise: random numbers of textures and outlines.
    """

    height: int
    width: int
    camera: Camera
    random: Random
    noise: np.random.Generator
    surfaces: list[Surface] = field(default_factory=list)

    def __post_init__(self) -> None:
        size = (self.width, self.height)
        self.numbers = Image.new("L", size)
        self.behind = Image.new("L", size)
        self.shadow = Image.new("L", size)
        self._pen = ImageDraw.Draw(self.numbers)
        self._shadow_pen = ImageDraw.Draw(self.shadow)

    def add(self, surface: Surface) -> int:
        """Enters a surface and returns its number; once all 255 are used, the last one stands for the rest."""
        if len(self.surfaces) < 255:
            self.surfaces.append(surface)
        return len(self.surfaces) - 1

    def polygon(self, number: int, points: Sequence[Point]) -> None:
        """Fills a polygon given in pixels."""
        self._pen.polygon(points, fill=number)

    def quad(self, number: int, corners: Sequence[tuple[float, float, float]]) -> None:
        """Fills a polygon given in world points."""
        self._pen.polygon([self.camera.project(*corner) for corner in corners], fill=number)

    def upright(self, number: int, x: tuple[float, float], y: tuple[float, float], z: float) -> None:
        """Fills a rectangle that faces the camera at distance z; never thinner than a pixel."""
        left, bottom = self.camera.project(x[0], y[0], z)
        right, top = self.camera.project(x[1], y[1], z)
        self._pen.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), fill=number)

    def disc(self, number: int, x: float, y: float, z: float, radius: float) -> None:
        """Fills a disc of `radius` metres that faces the camera."""
        cx, cy = self.camera.project(x, y, z)
        r = self.camera.pixels(radius, z)
        self._pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=number)

    def ring(self, number: int, x: float, y: float, z: float, radius: float) -> None:
        """Draws a circle one or two pixels wide, such as a wheel seen from the side."""
        cx, cy = self.camera.project(x, y, z)
        r = self.camera.pixels(radius, z)
        self._pen.ellipse((cx - r, cy - r, cx + r, cy + r), outline=number, width=2 if r > 5 else 1)

    def rod(
        self, number: int, start: tuple[float, float, float], end: tuple[float, float, float], thick: float
    ) -> None:
        """Draws a line between world points, `thick` metres wide but at least one pixel."""
        width = max(1, round(self.camera.pixels(thick, min(start[2], end[2]))))
        self._pen.line([self.camera.project(*start), self.camera.project(*end)], fill=number, width=width)

    def see_through(self, number: int, points: Sequence[Point]) -> None:
        """Fills a polygon whose gaps show what was drawn before."""
        mask = Image.new("L", self.numbers.size)
        ImageDraw.Draw(mask).polygon(points, fill=255)
        self.behind.paste(self.numbers, mask=mask)
        self._pen.polygon(points, fill=number)

    def shade(self, corners: Sequence[tuple[float, float, float]], strength: float) -> None:
        """Casts a shadow (0..1) on the ground within world points."""
        self._shadow_pen.polygon([self.camera.project(*corner) for corner in corners], fill=round(255 * strength))

    def ragged(self, number: int, centre: Point, radii: Point, density: float) -> None:
        """Fills a crown: an ellipse (pixels) whose outline and holes follow noise; higher density, fewer holes."""
        rx, ry = max(radii[0], 1.0), max(radii[1], 1.0)
        x0, x1 = math.floor(centre[0] - 1.3 * rx), math.ceil(centre[0] + 1.3 * rx)
        y0, y1 = math.floor(centre[1] - 1.3 * ry), math.ceil(centre[1] + 1.3 * ry)
        x0, x1, y0, y1 = max(x0, 0), min(x1, self.width), max(y0, 0), min(y1, self.height)
        if x1 <= x0 or y1 <= y0:
            return
        rows = ((np.arange(y0, y1, dtype=np.float32) - centre[1]) / ry)[:, None]
        columns = ((np.arange(x0, x1, dtype=np.float32) - centre[0]) / rx)[None]
        coarse = smooth(self.noise, y1 - y0, x1 - x0, 5)
        fine = self.noise.random((y1 - y0, x1 - x0), dtype=np.float32)
        inside = rows**2 + columns**2 + 1.1 * (coarse - 0.5) + 0.7 * (fine - 0.5) < density
        self.numbers.paste(number, (x0, y0), Image.fromarray(inside.astype(np.uint8) * 255))


def smooth(noise: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    """Noise in 0..1, float32 [height, width], that changes over about `cell` pixels."""
    grid = noise.random((height // cell + 2, width // cell + 2), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BILINEAR))
