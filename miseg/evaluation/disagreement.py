"""Agreement of two models pixel by pixel, from the pictures that their evaluations kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from miseg.evaluation.pictures import GAP, IGNORED, INK, PAPER, RIGHT, TEXT, TITLES, WRONG, legend_picture

# Okabe and Ito's blue and orange for what one of the two has right; white and black for both and none.
BOTH, FIRST, SECOND, NEITHER = (236, 236, 236), (0, 114, 178), (230, 159, 0), (20, 20, 20)


def disagreement(first: Image.Image, second: Image.Image, names: Sequence[str]) -> tuple[Image.Image, float]:
    """Image, truth, both predictions and who is right where, of two models' `panels` of the same images.

    Args:
        first: a picture by `miseg.evaluation.pictures.panels`.
        second: the same of another model.
        names: what the two are called.

    Returns:
        The picture, and the share, 0..1, of counted pixels where one is right and the other is not.

    Raises:
        ValueError: pictures that are no panels, or of different images.
    """
    first_HWC, second_HWC = (np.asarray(picture.convert("RGB")) for picture in (first, second))
    cells = _cells(first_HWC)
    if first_HWC.shape != second_HWC.shape or cells != _cells(second_HWC):
        raise ValueError("the pictures are of different images, or of different sizes")
    step = _step(first_HWC)
    font = ImageFont.load_default(TEXT)
    titles = ("image", "truth", *names, "who is right")
    width = max(step, *(int(font.getlength(title)) + 1 + GAP for title in titles))
    meaning = {"both right": BOTH, f"only {names[0]}": FIRST, f"only {names[1]}": SECOND, "neither": NEITHER}
    meaning["ignored"] = IGNORED
    total = len(titles) * width + GAP
    keys = legend_picture(list(meaning.items()), font, total)
    sheet = Image.new("RGB", (total, cells[-1][1] + GAP + keys.height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((GAP + column * width, GAP // 2), title, INK, font)
    apart = counted = 0
    for top, bottom, cell_width in cells:
        parts = [
            [sheet_HWC[top:bottom, GAP + column * step :][:, :cell_width] for column in range(len(TITLES))]
            for sheet_HWC in (first_HWC, second_HWC)
        ]
        if not all(np.array_equal(*pair) for pair in zip(parts[0][:2], parts[1][:2], strict=True)):
            raise ValueError("the pictures are of different images")
        right, also = (np.all(part[3] == RIGHT, axis=2) for part in parts)
        ignored = np.all(parts[0][3] == IGNORED, axis=2)
        who = np.select([ignored, right & also, right, also], [0, 1, 2, 3], 4)
        apart += int(((who == 2) | (who == 3)).sum())
        counted += int((~ignored).sum())
        shown = np.asarray([IGNORED, BOTH, FIRST, SECOND, NEITHER], dtype=np.uint8)[who]
        row = [parts[0][0], parts[0][1], parts[0][2], parts[1][2], shown]
        for column, part in enumerate(row):
            sheet.paste(Image.fromarray(np.ascontiguousarray(part)), (GAP + column * width, top))
    sheet.paste(keys, (0, cells[-1][1] + GAP))
    return sheet, apart / max(1, counted)


def _step(sheet_HWC: np.ndarray) -> int:
    return (sheet_HWC.shape[1] - GAP) // len(TITLES)


def _cells(sheet_HWC: np.ndarray) -> list[tuple[int, int, int]]:
    """Top, bottom and width of the error map of each image."""
    left, top = GAP + 3 * _step(sheet_HWC), 2 * GAP + TEXT
    verdicts = np.any([np.all(sheet_HWC == colour, axis=2) for colour in (RIGHT, WRONG, IGNORED)], axis=0)
    cells = []
    while top < len(verdicts) and verdicts[top, left]:
        bottom, right = top + _run(verdicts[top:, left]), left + _run(verdicts[top, left:])
        cells.append((top, bottom, right - left))
        top = bottom + GAP
    if not cells:
        raise ValueError("the picture shows no errors beside an image: it is none of the panels of an evaluation")
    return cells


def _run(values: np.ndarray) -> int:
    """Number of true values before the first false one."""
    return len(values) if values.all() else int(values.argmin())
