"""From drawings to the labelled pixels that maps are made from, and what of each drawing is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from miseg.data.labels.annotations import LabelledPixels, Valid, usable_pixels
from miseg.data.labels.drawings import Drawings, mark_of_drawing
from miseg.data.labels.marks import Mark, class_order
from miseg.data.raster.grid import Grid
from miseg.service.labelling.maps import Labelled


@dataclass(frozen=True)
class UsableLabels:
    """The labels that maps are made from.

    Attributes:
        labelled: pixels by drawing.
        class_ids: K classes in label order, which is `read_annotations`': those with a usable pixel.
        problems: what of each drawing is left out, by its id.
    """

    labelled: tuple[Labelled, ...]
    class_ids: tuple[str, ...]
    problems: dict[str, list[str]]


def usable_labels(drawings: Drawings, grid: Grid, valid: Callable[[str], Valid]) -> UsableLabels:
    """The labels of all scenes as pixels.

    Args:
        drawings: what a person drew.
        grid: of all scenes.
        valid: gives a scene's valid pixels, by its name.
    """
    names = {label_class.id: label_class.name for label_class in drawings.classes}
    marks: dict[str, list[Mark]] = {}
    problems: dict[str, list[str]] = {}
    for drawing in drawings.drawings:
        drawn, problem = mark_of_drawing(drawing, names[drawing.class_id], grid)
        marks.setdefault(drawing.scene, []).append(drawn)
        if problem is not None:
            problems.setdefault(drawing.id, []).append(problem.reason)
    classes = sorted(names.values(), key=class_order)
    usable: dict[str, LabelledPixels] = {}
    for scene, scene_marks in marks.items():
        try:
            usable[scene], left_out = usable_pixels(scene_marks, classes, grid, valid(scene))
        except ValueError as error:
            for drawn in scene_marks:
                problems.setdefault(drawn.source, []).append(str(error))
            continue
        for _, problem in left_out:
            problems.setdefault(problem.source, []).append(problem.reason)
    present = sorted({label for pixels in usable.values() for label in np.unique(pixels.labels).tolist()})
    label_of = {label: index for index, label in enumerate(present)}
    labelled = [
        Labelled(scene, label_of[int(pixels.labels[marked][0])], pixels.rows[marked], pixels.columns[marked])
        for scene, pixels in usable.items()
        for marked in (pixels.origin == index for index in np.unique(pixels.origin))
    ]
    ids = {label_class.name: label_class.id for label_class in drawings.classes}
    return UsableLabels(tuple(labelled), tuple(ids[classes[label]] for label in present), problems)
