"""A row of a paper's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Metric = Literal["mean_iou", "image_mean_iou", "micro_iou", "pixel_accuracy", "mean_dice"]
"""Kind of a figure; `image_mean_iou` is the mean over images of each image's own mean IoU."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One row of a paper's table."""

    paper: str
    """Authors, year and title."""
    table: str
    """The table there, by its number where it has one that is known here."""
    data: str
    """The data set, by its name here where it is one of ours."""
    system: str
    """The network and the length of the training, and the split where it is another than ours."""
    row: str
    """Name of the row."""
    method: str
    """The class in `miseg.methods.configs`, which finds the same method among our rows; empty: none of ours."""
    recipe: str = ""
    """The recipe that runs it, a name in `miseg.recipes.catalog.RECIPES`; empty: none of ours."""
    metric: Metric = "mean_iou"
    value: float | None = None
    """The reported figure, %; None where the paper reports the gain alone, or nothing."""
    baseline: float | None = None
    """The figure, %, of cross-entropy over classes in the same table; None where the paper's baseline is another."""
    points: float | None = None
    """The gain where the paper reports it alone, in points."""
    labels: str = "all"
    """Labels: all, or the number of labelled pixels of each class."""
    change: str = ""
    """Difference from the method's own row: an ablation, or the CRF."""
    ours: Literal["method", "recipe", "none"] = "method"
    """Name that a row of ours must share to stand beside it; none: nothing of ours is measured alike."""
    computed: bool = False
    """Whether the figure is computed from others of the table, and not printed there."""
    seconds: float | None = None
    """Seconds that an image takes, as the table says."""
    classes: tuple[tuple[str, float], ...] = ()
    """IoU of each class, %."""

    @property
    def gain(self) -> float | None:
        """Points over the paper's own baseline; None for the baseline itself."""
        if self.points is not None or self.value is None or self.baseline in (None, self.value):
            return self.points
        return round(self.value - self.baseline, 4)

    @property
    def source(self) -> str:
        """The table that a figure is from; empty where there is no figure."""
        if self.value is None and self.points is None:
            return ""
        return f"{self.table}, computed from its figures" if self.computed else self.table
