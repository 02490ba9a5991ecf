"""Figures of InfoSeg, in its paper and thesis and as later work reports them."""

from __future__ import annotations

from collections.abc import Iterator

from miseg.recipes.published.rows import Metric, Published

PAPER = "Harb and Knöbelreiter (2021): InfoSeg, unsupervised semantic image segmentation"

_METHODS = {
    "K-means of colours": ("PixelKMeans", "kmeans"),
    "Doersch et al., K-means": ("RelativePosition", "relative-position"),
    "Isola et al., K-means": ("CoOccurrence", "co-occurrence"),
    "IIC": ("InvariantInformation", "iic"),
    "InfoSeg": ("InfoSeg", "infoseg"),
}
_FIGURES: dict[str, dict[Metric, tuple[float, ...]]] = {
    "coco-stuff-15": {"pixel_accuracy": (14.1, 23.1, 24.3, 27.7, 36.4), "mean_iou": (7.6, 13.1, 13.9, 16.3, 22.3)},
    "coco-persons": {"pixel_accuracy": (54.3, 55.6, 57.5, 57.1, 68.3), "mean_iou": (37.4, 38.1, 40.3, 39.4, 52.1)},
}
"""Of each method in the order of `_METHODS`."""

_TABLES = {"coco-stuff-15": "its table of COCO-Stuff-15", "coco-persons": "its table of COCO-Persons"}
_LATER = {"potsdam-3": 71.6, "potsdam": 57.3, "coco-stuff-15": 38.8, "coco-persons": 69.6}


def _recipe(data: str, method: str) -> str:
    """The recipe that comes nearest: as published, where there is one of its own."""
    published = data == "coco-persons" or method in ("iic", "infoseg")
    return f"{data}-{method}" + ("-as-published" if published else "")


def _rows() -> Iterator[Published]:
    for data, by_metric in _FIGURES.items():
        for metric, figures in by_metric.items():
            for (row, (method, recipe)), value in zip(_METHODS.items(), figures, strict=True):
                yield Published(
                    paper=PAPER, table=_TABLES[data], data=data, system="128 x 128, 300 epochs", row=row, method=method,
                    recipe=_recipe(data, recipe), metric=metric, value=value,
                )  # fmt: skip
    for data, value in _LATER.items():
        yield Published(
            paper=PAPER, table="a later document than the thesis", data=data, system="", row="InfoSeg, later",
            method="InfoSeg", recipe=_recipe(data, "infoseg"), metric="pixel_accuracy", value=value,
        )  # fmt: skip


ROWS: tuple[Published, ...] = tuple(_rows())
