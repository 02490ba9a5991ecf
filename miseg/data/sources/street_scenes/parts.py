"""Objects of a street: walls, trees, fences, poles, signs, cars, people."""

from __future__ import annotations

from miseg.data.samples import IGNORE_LABEL
from miseg.data.sources.street_scenes.canvas import Canvas, Colour, Kind, Surface

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)

# Walls, fences, cars and coats draw on one palette, so that colour alone settles no class.
MASONRY: tuple[Colour, ...] = (
    (0.50, 0.31, 0.25),
    (0.74, 0.67, 0.54),
    (0.50, 0.49, 0.48),
    (0.28, 0.26, 0.25),
    (0.80, 0.79, 0.76),
    (0.62, 0.50, 0.36),
)
PAINT: tuple[Colour, ...] = (
    (0.10, 0.10, 0.12),
    (0.75, 0.76, 0.78),
    (0.45, 0.46, 0.48),
    (0.55, 0.10, 0.10),
    (0.12, 0.20, 0.42),
    (0.85, 0.85, 0.83),
    (0.18, 0.32, 0.24),
    (0.62, 0.53, 0.38),
)
SIGNAL: tuple[Colour, ...] = (
    (0.80, 0.12, 0.10),
    (0.12, 0.25, 0.62),
    (0.90, 0.88, 0.84),
    (0.85, 0.70, 0.12),
    (0.12, 0.42, 0.25),
)
LEAVES: tuple[Colour, ...] = ((0.22, 0.30, 0.14), (0.30, 0.36, 0.18), (0.36, 0.29, 0.18), (0.16, 0.22, 0.14))


def pick(canvas: Canvas, palette: tuple[Colour, ...], spread: float = 0.07) -> Colour:
    """A colour of the palette, moved a little."""
    red, green, blue = canvas.random.choice(palette)
    shift = canvas.random.uniform(-spread, spread)
    near = [c + shift + canvas.random.uniform(-spread, spread) / 2 for c in (red, green, blue)]
    return near[0], near[1], near[2]


def building(canvas: Canvas, side: int, line: float, z0: float, z1: float, top: float) -> None:
    """A house on the building line, `top` metres high, between distances z0 and z1; side is -1 (left) or 1."""
    random = canvas.random
    colour = pick(canvas, MASONRY)
    period, phase, glass = random.uniform(1.8, 4.0), random.uniform(0, 3), random.choice((0.0, 0.3, 0.45, 0.55, 0.7))
    front = canvas.add(Surface(BUILDING, colour, Kind.FRONT_WALL, z0, period, phase, glass))
    wall = canvas.add(Surface(BUILDING, colour, Kind.SIDE_WALL, side * line, period, phase, glass))
    edge, back = side * line, side * (line + 14)
    canvas.quad(front, [(edge, 0, z0), (edge, top, z0), (back, top, z0), (back, 0, z0)])
    canvas.quad(wall, [(edge, 0, z0), (edge, top, z0), (edge, top, z1), (edge, 0, z1)])
    if random.random() < 0.45:
        gable = canvas.add(Surface(BUILDING, pick(canvas, MASONRY[:4]), Kind.PLAIN, z0))
        ridge = top + random.uniform(1.5, 4)
        canvas.quad(gable, [(edge, top, z0), (side * (line + 5), ridge, z0), (side * (line + 10), top, z0)])
    if random.random() < 0.3:
        board = canvas.add(Surface(SIGN, pick(canvas, SIGNAL), Kind.SHINY, z0))
        length = random.uniform(0.3, 0.9) * (z1 - z0)
        canvas.quad(board, [(edge, 2.6, z0), (edge, 3.3, z0), (edge, 3.3, z0 + length), (edge, 2.6, z0 + length)])


def tree(canvas: Canvas, x: float, z: float, height: float) -> None:
    """A tree, in leaf or bare."""
    random, camera = canvas.random, canvas.camera
    bark = canvas.add(Surface(TREE, pick(canvas, LEAVES[2:], 0.04), Kind.PLAIN, z))
    crown = canvas.add(Surface(TREE, pick(canvas, LEAVES, 0.05), Kind.FOLIAGE, z))
    bare = random.random() < 0.3
    canvas.rod(bark, (x, 0, z), (x + random.uniform(-0.3, 0.3), height * 0.6, z), 0.3)
    spread = height * random.uniform(0.28, 0.42)
    for _ in range(9 if bare else 2):
        tip = (x + random.uniform(-spread, spread), height * random.uniform(0.55, 0.98), z)
        canvas.rod(bark, (x, height * random.uniform(0.25, 0.6), z), tip, 0.08)
    for _ in range(random.randint(2, 3)):
        at = camera.project(x + random.uniform(-0.5, 0.5) * spread, height * random.uniform(0.5, 0.8), z)
        size = random.uniform(0.6, 1.0) * camera.pixels(spread, z)
        canvas.ragged(crown, at, (size, size * random.uniform(0.7, 1.1)), 0.25 if bare else random.uniform(0.7, 1.0))
    canvas.shade([(x - spread, 0, z), (x + spread, 0, z), (x + 2 * spread, 0, z - 2), (x, 0, z - 2)], 0.35)


def fence(canvas: Canvas, x: float, z0: float, z1: float, height: float) -> None:
    """A railing that shows what is behind it, or a low wall or board fence of the houses' colours."""
    corners = [canvas.camera.project(x, y, z) for y, z in ((0, z0), (height, z0), (height, z1), (0, z1))]
    if canvas.random.random() < 0.55:
        railing = Surface(FENCE, pick(canvas, PAINT), Kind.RAILING, x, canvas.random.uniform(0.25, 0.6))
        canvas.see_through(canvas.add(railing), corners)
    else:
        wall = Surface(FENCE, pick(canvas, MASONRY), Kind.SIDE_WALL, x, canvas.random.uniform(0.5, 2.0))
        canvas.polygon(canvas.add(wall), corners)


def pole(canvas: Canvas, x: float, z: float) -> None:
    """A lamp post, a traffic light or a sign on its post: one or two pixels wide mostly."""
    random = canvas.random
    post = canvas.add(Surface(POLE, pick(canvas, MASONRY[2:5], 0.1), Kind.PLAIN, z))
    what = random.random()
    top = random.uniform(5, 8) if what < 0.5 else random.uniform(2.4, 3.4)
    canvas.rod(post, (x, 0, z), (x, top, z), 0.13)
    if what < 0.5:
        arm = -1.6 if x > 0 else 1.6
        canvas.rod(post, (x, top, z), (x + arm, top + 0.15, z), 0.1)
    elif what < 0.7:
        box = canvas.add(Surface(SIGN, (0.08, 0.09, 0.08), Kind.PLAIN, z))
        lamp = canvas.add(Surface(SIGN, random.choice(((0.9, 0.2, 0.1), (0.2, 0.9, 0.5))), Kind.PLAIN, z))
        canvas.upright(box, (x - 0.22, x + 0.22), (top - 0.9, top + 0.1), z)
        canvas.disc(lamp, x, top - random.choice((0.1, 0.6)), z, 0.12)
    else:
        plate = canvas.add(Surface(SIGN, pick(canvas, SIGNAL), Kind.SHINY, z))
        if random.random() < 0.5:
            canvas.disc(plate, x, top, z, random.uniform(0.3, 0.45))
        else:
            half = random.uniform(0.25, 0.6)
            canvas.upright(plate, (x - half, x + half), (top - random.uniform(0.4, 0.9), top), z)


def car(canvas: Canvas, x: float, z: float, rim: bool) -> None:
    """A car seen from behind (or ahead) with the flank that faces the camera; x is its middle, z its near end."""
    random = canvas.random
    half, tall, length = random.uniform(0.8, 0.95), random.uniform(1.35, 1.9), random.uniform(3.6, 4.8)
    colour = pick(canvas, PAINT)
    body = canvas.add(Surface(CAR, colour, Kind.SHINY, z, rim=rim))
    flank = canvas.add(Surface(CAR, tuple(0.72 * c for c in colour), Kind.SHINY, z, rim=rim))  # type: ignore[arg-type]
    glass = canvas.add(Surface(CAR, (0.10, 0.12, 0.15), Kind.SHINY, z, rim=rim))
    tyre = canvas.add(Surface(CAR, (0.05, 0.05, 0.05), Kind.PLAIN, z, rim=rim))
    light = canvas.add(Surface(CAR, random.choice(((0.7, 0.08, 0.06), (0.95, 0.93, 0.85))), Kind.SHINY, z, rim=rim))
    canvas.shade([(x - half - 0.2, 0, z - 0.3), (x + half + 0.2, 0, z - 0.3), (x + half + 0.2, 0, z + length)], 0.7)
    canvas.shade([(x - half - 0.2, 0, z - 0.3), (x + half + 0.2, 0, z + length), (x - half - 0.2, 0, z + length)], 0.7)
    inner = x - half if x > 0 else x + half
    waist, far = 0.62 * tall, z + length
    for wheel in (z + 0.7, far - 0.8):
        canvas.quad(
            tyre, [(inner, 0, wheel - 0.32), (inner, 0.6, wheel - 0.32), (inner, 0.6, wheel), (inner, 0, wheel)]
        )
    canvas.quad(flank, [(inner, 0.22, z), (inner, waist, z), (inner, waist * 0.95, far), (inner, 0.22, far)])
    tilt = -0.12 if x > 0 else 0.12
    cabin = [(inner, waist, z), (inner - tilt, tall, z + 0.5), (inner - tilt, tall, z + 2.4), (inner, waist, far - 1.1)]
    canvas.quad(flank, cabin)
    pane = [(inner, waist, z + 0.4), (inner - tilt, tall * 0.93, z + 0.7), (inner - tilt, tall * 0.93, z + 2.2)]
    canvas.quad(glass, [*pane, (inner, waist, far - 1.5)])
    canvas.upright(tyre, (x - half, x - half + 0.25), (0, 0.4), z)
    canvas.upright(tyre, (x + half - 0.25, x + half), (0, 0.4), z)
    canvas.upright(body, (x - half, x + half), (0.25, waist), z)
    back = [(x - half, waist, z), (x - half + 0.14, tall, z + 0.3), (x + half - 0.14, tall, z + 0.3)]
    canvas.quad(body, [*back, (x + half, waist, z)])
    screen = [(x - half + 0.1, waist, z), (x - half + 0.2, tall - 0.1, z), (x + half - 0.2, tall - 0.1, z)]
    canvas.quad(glass, [*screen, (x + half - 0.1, waist, z)])
    for lamp in (x - half, x + half - 0.22):
        canvas.upright(light, (lamp, lamp + 0.22), (waist - 0.3, waist - 0.1), z)


def person(canvas: Canvas, x: float, z: float, cycling: bool = False) -> None:
    """Somebody on foot or on a bicycle."""
    random = canvas.random
    label = BICYCLIST if cycling else PEDESTRIAN
    legs = canvas.add(Surface(label, pick(canvas, PAINT[:3]), Kind.PLAIN, z))
    coat = canvas.add(Surface(label, pick(canvas, PAINT, 0.12), Kind.PLAIN, z))
    skin = canvas.add(Surface(label, pick(canvas, ((0.72, 0.52, 0.42), (0.36, 0.24, 0.18), (0.2, 0.15, 0.1)))))
    tall, lift = random.uniform(1.5, 1.9), 0.35 if cycling else 0.0
    stride = random.uniform(0.08, 0.3)
    canvas.shade([(x - 0.3, 0, z - 0.2), (x + 0.5, 0, z - 0.2), (x + 0.7, 0, z + 0.4), (x - 0.2, 0, z + 0.4)], 0.4)
    if cycling:
        frame = canvas.add(Surface(label, pick(canvas, PAINT[:4], 0.1), Kind.PLAIN, z))
        across = random.uniform(0.05, 0.6)
        for wheel in (x - across, x + across):
            canvas.ring(frame, wheel, 0.34, z, 0.34)
        canvas.rod(frame, (x - across, 0.34, z), (x + across, 0.95, z), 0.06)
        canvas.rod(frame, (x + across, 0.34, z), (x, 0.9, z), 0.06)
    hip, neck = 0.48 * tall + lift, 0.84 * tall + lift
    canvas.rod(legs, (x, hip, z), (x - stride, lift / 2, z), 0.18)
    canvas.rod(legs, (x, hip, z), (x + stride, lift / 2, z), 0.18)
    wide = random.uniform(0.2, 0.28)
    outline = ((-wide, neck - 0.08), (-wide / 2, neck), (wide / 2, neck), (wide, neck - 0.08))
    hem = ((0.8 * wide, hip - 0.08), (-0.8 * wide, hip - 0.08))
    canvas.quad(coat, [(x + dx, y, z) for dx, y in outline + hem])
    canvas.disc(skin, x, neck + 0.13, z, 0.13)


def clutter(canvas: Canvas, x: float, z: float) -> None:
    """A bin or a board on the pavement, which the labels leave out."""
    number = canvas.add(Surface(IGNORE_LABEL, pick(canvas, PAINT), Kind.SHINY, z))
    half = canvas.random.uniform(0.25, 0.5)
    canvas.upright(number, (x - half, x + half), (0, canvas.random.uniform(0.8, 1.3)), z)
