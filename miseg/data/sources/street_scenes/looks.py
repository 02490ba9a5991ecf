"""Texture, light and camera: from the numbers of surfaces to an image."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from miseg.data.sources.street_scenes.canvas import Canvas, Kind, smooth


def render(canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 [H, W, 3] and mask uint8 [H, W] of a finished canvas."""
    table = _Table(canvas)
    numbers = np.asarray(canvas.numbers)
    look = _through_railings(canvas, table, numbers)
    world = _World(canvas, table, look)
    colour = table.colour[look] * _texture(canvas, table, look, world)[..., None]
    colour = _ground_marks(canvas, colour, world)
    colour *= _light(canvas, world)[..., None]
    sky = _sky(canvas)
    haze = (1 - np.exp(-world.depth / canvas.random.choice((150.0, 300.0, 600.0))))[..., None]
    air = sky[max(0, min(int(canvas.camera.vy), canvas.height) - 1)].mean(0)
    colour = np.where((world.kind == Kind.SKY)[..., None], sky, colour * (1 - haze) + air * haze)
    return _expose(canvas, colour), _labels(table, numbers)


class _Table:
    """The surfaces' fields as arrays to index with numbers."""

    def __init__(self, canvas: Canvas) -> None:
        rows = canvas.surfaces
        self.label = np.array([s.label for s in rows], np.uint8)
        self.colour = np.array([s.colour for s in rows], np.float32)
        self.kind = np.array([s.kind for s in rows], np.uint8)
        self.distance = np.array([s.distance for s in rows], np.float32)
        self.period = np.array([s.period for s in rows], np.float32)
        self.phase = np.array([s.phase for s in rows], np.float32)
        self.glass = np.array([s.glass for s in rows], np.float32)
        self.rim = np.array([s.rim for s in rows], bool)


class _World:
    """World coordinates of each pixel's surface: depth Z, `along` the surface and `up` it, in metres."""

    def __init__(self, canvas: Canvas, table: _Table, look: np.ndarray) -> None:
        camera = canvas.camera
        x = np.arange(canvas.width, dtype=np.float32)[None] + 0.5 - camera.vx
        y = np.arange(canvas.height, dtype=np.float32)[:, None] + 0.5 - camera.vy
        self.kind = table.kind[look]
        distance = table.distance[look]
        ground = (self.kind == Kind.ROAD) | (self.kind == Kind.PAVEMENT)
        side = (self.kind == Kind.SIDE_WALL) | (self.kind == Kind.RAILING)
        ahead = camera.focal * camera.height / np.maximum(y, 0.3)
        beside = camera.focal * np.abs(distance) / np.maximum(np.abs(x), 0.5)
        self.depth = np.where(ground, ahead, np.where(side, beside, distance)).clip(0, 400)
        self.across = x * self.depth / camera.focal
        self.up = camera.height - y * self.depth / camera.focal
        self.along = np.where(side, self.depth, self.across)


def _through_railings(canvas: Canvas, table: _Table, numbers: np.ndarray) -> np.ndarray:
    world = _World(canvas, table, numbers)
    gap = (world.along / table.period[numbers]) % 1 > 0.4
    # Beyond a few metres pickets are thinner than pixels; there every other pixel row of noise lets the back show.
    gap = np.where(world.depth > 18, canvas.noise.random(numbers.shape, dtype=np.float32) > 0.6, gap)
    gap &= (world.kind == Kind.RAILING) & (world.up < 0.95)
    return np.where(gap, np.asarray(canvas.behind), numbers)


def _texture(canvas: Canvas, table: _Table, look: np.ndarray, world: _World) -> np.ndarray:
    height, width = look.shape
    grain = canvas.noise.random((height, width), dtype=np.float32) - 0.5
    patches = smooth(canvas.noise, height, width, 9) - 0.5
    leaves = smooth(canvas.noise, height, width, 2) - 0.5
    amount = np.array([0.06, 0.0, 0.12, 0.14, 0.10, 0.10, 0.5, 0.2, 0.05], np.float32)[world.kind]
    factor = 1 + amount * grain + 0.25 * patches + np.where(world.kind == Kind.FOLIAGE, 1.1 * leaves, 0)
    wall = (world.kind == Kind.SIDE_WALL) | (world.kind == Kind.FRONT_WALL)
    column = (world.along + table.phase[look]) / table.period[look]
    storey = world.up / 3.0
    share = table.glass[look]
    pane = wall & (column % 1 < share) & (storey % 1 > 0.3) & (storey % 1 < 0.3 + 0.8 * np.sqrt(share)) & (share > 0)
    # Each window reflects something else: mostly dark, now and then the sky.
    reflection = np.sin(np.floor(column) * 12.9898 + np.floor(storey) * 78.233) * 43758.547 % 1
    factor = np.where(pane, np.where(reflection > 0.8, 1.25, 0.3 + 0.4 * reflection), factor)
    bricks = wall & ~pane & (world.depth < 25) & ((world.up * 3.2 % 1 < 0.18) | (world.along * 1.7 % 1 < 0.06))
    shiny = (world.kind == Kind.SHINY) & (patches + 0.3 * grain > 0.27)
    return factor * np.where(bricks, 0.88, 1) * np.where(shiny, 1.35, 1)


def _ground_marks(canvas: Canvas, colour: np.ndarray, world: _World) -> np.ndarray:
    random = canvas.random
    road, across, z = world.kind == Kind.ROAD, world.across, world.depth
    centre, dash, wear = random.uniform(-2.5, 1.0), random.uniform(3, 8), random.uniform(0.2, 0.65)
    marks = (np.abs(across - centre) < 0.09) & (z % dash < 0.55 * dash)
    if random.random() < 0.5:
        marks |= np.abs(np.abs(across - centre) - random.uniform(2.6, 3.4)) < 0.07
    if random.random() < 0.3:
        start = random.uniform(5, 16)
        marks |= (z > start) & (z < start + 3) & (across % 1.1 < 0.55)
    colour = np.where((road & marks & (z < 60))[..., None], (1 - wear) * colour + wear * 0.85, colour)
    joint = (world.kind == Kind.PAVEMENT) & (z < 14) & ((across % 0.9 < 0.07) | (z % 0.9 < 0.09))
    return np.where(joint[..., None], 0.8 * colour, colour)


def _light(canvas: Canvas, world: _World) -> np.ndarray:
    random = canvas.random
    sunny = random.random() < 0.6
    left, right = random.sample((0.55, 1.15), 2) if sunny else (0.85, 0.9)
    side = (world.kind == Kind.SIDE_WALL) | (world.kind == Kind.RAILING)
    light = np.where(side, np.where(world.across < 0, left, right), 1.0)
    light = np.where(world.kind == Kind.FRONT_WALL, random.uniform(0.6, 1.05), light)
    shadow = np.asarray(canvas.shadow, np.float32) / 255 * (1.0 if sunny else 0.55)
    ground = (world.kind == Kind.ROAD) | (world.kind == Kind.PAVEMENT)
    if sunny:
        reach, wobble = random.uniform(-3.5, 2.5), smooth(canvas.noise, canvas.height, canvas.width, 12) - 0.5
        shaded = (world.across < reach + wobble) if left < right else (world.across > -reach + wobble)
        shadow = np.maximum(shadow, np.where(shaded, 0.5, 0))
        things = (world.kind == Kind.PLAIN) | (world.kind == Kind.SHINY)
        light = np.where(things & shaded, 0.75 * light, light)
    return np.where(ground, light * (1 - shadow), light)


def _sky(canvas: Canvas) -> np.ndarray:
    random, height, width = canvas.random, canvas.height, canvas.width
    tops = ((0.30, 0.48, 0.78), (0.55, 0.66, 0.82), (0.62, 0.64, 0.66), (0.86, 0.87, 0.88), (0.42, 0.44, 0.48))
    top = np.array(random.choice(tops), np.float32)
    low = np.clip(0.45 * top + np.array((0.52, 0.51, 0.5), np.float32), 0, 1)
    down = np.clip(np.arange(height, dtype=np.float32) / max(canvas.camera.vy, 1), 0, 1)[:, None, None]
    clouds = 0.65 * smooth(canvas.noise, height, width, max(height // 5, 1))
    clouds = clouds + 0.35 * smooth(canvas.noise, height, width, max(height // 14, 1))
    cover = np.clip((clouds - random.uniform(0.35, 0.75)) * 4, 0, 1)[..., None]
    cloud = random.uniform(0.55, 1.0) * (0.85 + 0.3 * (clouds[..., None] - 0.5))
    return (top * (1 - down) + low * down) * (1 - cover) + cloud * cover


def _expose(canvas: Canvas, colour: np.ndarray) -> np.ndarray:
    """The camera: exposure, white balance, vignette, contrast, blur and sensor noise."""
    random, (height, width) = canvas.random, colour.shape[:2]
    tint = np.array([random.uniform(0.9, 1.1) for _ in range(3)], np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    vignette = 1 - random.uniform(0, 0.22) * (x**2 + y**2)
    exposed = colour * (tint * random.uniform(0.7, 1.4)) * vignette[..., None]
    exposed = np.clip(exposed, 0, 1) ** random.uniform(0.8, 1.3) * 255
    picture = Image.fromarray(exposed.astype(np.uint8)).filter(ImageFilter.GaussianBlur(random.uniform(0.25, 0.75)))
    sensor = random.uniform(1.5, 5.5) * canvas.noise.standard_normal((height, width, 3), dtype=np.float32)
    return np.clip(np.asarray(picture) + sensor, 0, 255).astype(np.uint8)


def _labels(table: _Table, numbers: np.ndarray) -> np.ndarray:
    labels, rim = table.label[numbers], table.rim[numbers]
    edge = np.zeros(labels.shape, bool)
    differs = labels[1:] != labels[:-1]
    edge[1:] |= differs & rim[1:]
    edge[:-1] |= differs & rim[:-1]
    differs = labels[:, 1:] != labels[:, :-1]
    edge[:, 1:] |= differs & rim[:, 1:]
    edge[:, :-1] |= differs & rim[:, :-1]
    return np.where(edge, np.uint8(255), labels)
