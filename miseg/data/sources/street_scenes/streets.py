"""The embedded data set: street scenes drawn by the program.

They are meant to be hard in the ways real streets are: houses, fences and cars share colours, light and camera change
from scene to scene, crowns are ragged, poles are a pixel wide. The classes are CamVid's, so that legends and models can
be compared; what they share with real pictures ends there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

import numpy as np

from miseg.data.samples import IGNORE_LABEL
from miseg.data.sources.camvid import CLASSES, COLOURS
from miseg.data.sources.street_scenes import parts
from miseg.data.sources.street_scenes.canvas import Camera, Canvas, Kind, Surface
from miseg.data.sources.street_scenes.looks import render

__all__ = ["CLASSES", "COLOURS", "HEIGHT", "WIDTH", "draw_scene"]

HEIGHT, WIDTH = 96, 128

_FAR = 110.0


def draw_scene(seed: int, index: int, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """Scene number `index` of `seed`.

    Args:
        seed: 0 or more.
        index: 0 or more; every index is another scene.
        height: pixels, at least 16.
        width: pixels, at least 16.

    Returns:
        Image uint8 [height, width, 3] and mask uint8 [height, width] with 0..10 in the order of `CLASSES` and 255
        where the scene is unlabelled. The same arguments give the same arrays.

    Raises:
        ValueError: a negative seed or index, or a picture too small to show anything.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed = {seed}, index = {index}: use 0 or more")
    if height < 16 or width < 16:
        raise ValueError(f"{height}x{width} pixels (height x width): a scene has at least 16x16")
    random = Random(f"street {seed} {index}")
    camera = Camera(
        focal=width * random.uniform(0.75, 1.05),
        vx=width * random.uniform(0.28, 0.72),
        vy=height * random.uniform(0.36, 0.52),
        height=random.uniform(1.3, 2.0),
    )
    canvas = Canvas(height, width, camera, random, np.random.default_rng((seed, index)))
    kerbs, lines = _ground(canvas)
    _skyline(canvas)
    for side in (-1, 1):
        _street_side(canvas, side, lines[side])
    _things(canvas, kerbs, lines)
    _bonnet(canvas)
    return render(canvas)


def _ground(canvas: Canvas) -> tuple[dict[int, float], dict[int, float]]:
    """Sky, pavement and road; the distances of kerbs and building lines from the camera, by side."""
    random = canvas.random
    canvas.add(Surface(parts.SKY, (0.7, 0.8, 0.9), Kind.SKY, 400))
    stone, tar = random.uniform(0.32, 0.66), random.uniform(0.26, 0.52)
    warm = random.uniform(-0.04, 0.06)
    pavement = canvas.add(Surface(parts.PAVEMENT, (stone + warm, stone, stone - warm), Kind.PAVEMENT))
    warm = random.uniform(-0.02, 0.03)
    road = canvas.add(Surface(parts.ROAD, (tar + warm, tar, tar - warm), Kind.ROAD))
    kerb = canvas.add(Surface(parts.PAVEMENT, (stone * 1.15,) * 3, Kind.PLAIN, 15))
    kerbs = {-1: random.uniform(2.6, 6.5), 1: random.uniform(2.4, 5.5)}
    lines = {side: kerbs[side] + random.uniform(1.4, 5.0) for side in kerbs}
    bottom, horizon = canvas.height, canvas.camera.vy
    canvas.polygon(pavement, [(0, horizon), (canvas.width, horizon), (canvas.width, bottom), (0, bottom)])
    canvas.quad(road, [(-kerbs[-1], 0, 0), (kerbs[1], 0, 0), (kerbs[1], 0, 400), (-kerbs[-1], 0, 400)])
    for side, x in kerbs.items():
        canvas.quad(kerb, [(side * x, 0, 0), (side * x, 0.14, 0), (side * x, 0.14, 60), (side * x, 0, 60)])
    if random.random() < 0.35:
        near = random.uniform(14, 30)
        far = near + random.uniform(5, 9)
        canvas.quad(road, [(-60, 0, near), (60, 0, near), (60, 0, far), (-60, 0, far)])
    return kerbs, lines


def _skyline(canvas: Canvas) -> None:
    """Draw the end of the street in the distance: houses, trees, or neither."""
    random = canvas.random
    x = -40.0
    while x < 40:
        wide, z = random.uniform(5, 14), random.uniform(90, _FAR)
        what = random.random()
        if what < 0.45:
            wall = Surface(parts.BUILDING, parts.pick(canvas, parts.MASONRY), Kind.FRONT_WALL, z, glass=0.4)
            canvas.upright(canvas.add(wall), (x, x + wide), (0, random.uniform(5, 22)), z)
        elif what < 0.8:
            crown = canvas.add(Surface(parts.TREE, parts.pick(canvas, parts.LEAVES), Kind.FOLIAGE, z))
            at = canvas.camera.project(x + wide / 2, random.uniform(3, 6), z)
            canvas.ragged(crown, at, (canvas.camera.pixels(wide * 0.7, z), canvas.camera.pixels(5, z)), 0.9)
        x += wide * random.uniform(0.7, 1.3)


def _street_side(canvas: Canvas, side: int, line: float) -> None:
    """Houses and gaps along one side, from far to near."""
    random = canvas.random
    town = random.uniform(0.3, 1.0)
    storeys = random.uniform(5, 12)
    far = _FAR
    while far > 1.5:
        near = far - random.uniform(5, 16) * (0.5 + far / 60)
        near = near if near > 3 else 0.5
        if random.random() < town:
            parts.building(canvas, side, line + random.uniform(0, 0.8), near, far, storeys * random.uniform(0.55, 1.4))
        else:
            _gap(canvas, side, line, near, far)
        far = near


def _gap(canvas: Canvas, side: int, line: float, near: float, far: float) -> None:
    """A garden or a yard between houses, behind a fence as a rule."""
    random = canvas.random
    edge, back = side * line, side * (line + 40)
    if random.random() < 0.6:
        lawn = canvas.add(Surface(parts.TREE, parts.pick(canvas, parts.LEAVES), Kind.FOLIAGE, (near + far) / 2))
        canvas.quad(lawn, [(edge, 0, near), (back, 0, near), (back, 0, far), (edge, 0, far)])
    depths = sorted((random.uniform(max(near, 3), max(far, 4)) for _ in range(random.randint(1, 3))), reverse=True)
    for z in depths:
        parts.tree(canvas, side * (line + random.uniform(0.8, 6)), z, random.uniform(4, 10))
    if random.random() < 0.8:
        parts.fence(canvas, edge, max(near, 0.5), far, random.uniform(0.9, 2.1))


def _things(canvas: Canvas, kerbs: dict[int, float], lines: dict[int, float]) -> None:
    """Everything that stands on road and pavement, from far to near."""
    random = canvas.random
    rims = random.random() < 0.7
    things: list[tuple[float, Callable[[], None]]] = []

    def put(draw: Callable[..., None], x: float, z: float, *rest: object) -> None:
        things.append((z, partial(draw, canvas, x, z, *rest)))

    def walk(side: int) -> float:
        return side * random.uniform(kerbs[side] + 0.2, lines[side] - 0.2)

    def lane(margin: float) -> float:
        return random.uniform(-kerbs[-1] + margin, kerbs[1] - margin)

    for side in (-1, 1):
        if random.random() < 0.55:
            z = random.uniform(5, 14)
            while z < 60 and random.random() < 0.88:
                put(parts.car, side * (kerbs[side] - 1.0), z, rims)
                z += random.uniform(5.2, 8)
        if random.random() < 0.4:
            z = random.uniform(3, 15)
            put(parts.fence, side * (kerbs[side] + 0.15), z, z + random.uniform(5, 25), random.uniform(0.9, 1.2))
        for _ in range(random.randint(1, 4)):
            put(parts.pole, side * (kerbs[side] + 0.4), random.uniform(4.5, 30))
        for _ in range(random.choice((0, 1, 2, 3, 4))):
            put(parts.person, walk(side), random.uniform(4.5, 22))
        if random.random() < 0.3:
            put(parts.tree, side * (kerbs[side] + 0.8), random.uniform(7, 40), random.uniform(4, 8))
        if random.random() < 0.3:
            put(parts.clutter, walk(side), random.uniform(5, 20))
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        put(parts.car, lane(1.2), random.uniform(7, 50), rims)
    for _ in range(random.choice((0, 1, 1, 2))):
        put(parts.person, lane(0.6), random.uniform(4.5, 18), True)
    if random.random() < 0.15:
        put(parts.person, lane(0.0), random.uniform(6, 20))
    for _, draw in sorted(things, key=lambda thing: -thing[0]):
        draw()


def _bonnet(canvas: Canvas) -> None:
    """The camera's own car, unlabelled, at the lower edge of one scene in three."""
    random = canvas.random
    if random.random() > 0.35:
        return
    number = canvas.add(Surface(IGNORE_LABEL, parts.pick(canvas, parts.PAINT), Kind.SHINY, 1.5))
    height, width = canvas.height, canvas.width
    top, middle = height * random.uniform(0.9, 0.96), width * random.uniform(0.4, 0.6)
    canvas.polygon(
        number,
        [
            (0, height),
            (0, height * 0.985),
            (width * 0.2, top + height * 0.01),
            (middle, top),
            (width * 0.8, top + height * 0.01),
            (width, height * 0.985),
            (width, height),
        ],
    )
