"""Figures of the Porto study."""

from __future__ import annotations

from collections.abc import Iterator

from miseg.recipes.published.rows import Metric, Published

PAPER = "Gonçalves, Capozzi, Rebelo and Cardoso (2024): Deep image segmentation based on mutual information"

_SYSTEM = "U-Net, 200 epochs"
_TABLES = {"cityscapes": "its table of Cityscapes", "voc": "its table of VOC 2012"}
_METHODS = {
    "CE": ("CrossEntropy", "ce"),
    "RMI": ("RegionMutualInformation", "rmi-as-published"),
    "mutual learning": ("MutualLearning", "mutual-as-published"),
}
_FIGURES: dict[str, dict[Metric, dict[str, float]]] = {
    "cityscapes": {
        "mean_iou": {"CE": 59.31, "RMI": 52.44, "mutual learning": 56.19},
        "pixel_accuracy": {"CE": 93.88, "RMI": 93.45, "mutual learning": 93.42},
    },
    "voc": {
        "mean_iou": {"CE": 19.65, "RMI": 6.07, "mutual learning": 22.03},
        "pixel_accuracy": {"CE": 73.67, "RMI": 68.93, "mutual learning": 75.39},
    },
}
"""The text defines IoU by sums over classes, which with one label a pixel is accuracy / (2 − accuracy): 88.5 for 93.88
and 58.3 for 73.67. What is printed is far below, so it is the mean over classes."""


def _rows() -> Iterator[Published]:
    for data, by_metric in _FIGURES.items():
        for metric, figures in by_metric.items():
            for row, value in figures.items():
                method, recipe = _METHODS[row]
                yield Published(
                    paper=PAPER, table=_TABLES[data], data=data, system=_SYSTEM, row=row, method=method,
                    recipe=f"porto-{data}-{recipe}", metric=metric, value=value, baseline=figures["CE"],
                )  # fmt: skip
    for row, (method, recipe) in _METHODS.items():
        yield Published(
            paper=PAPER, table="in no table", data="ade20k", system=_SYSTEM, row=row, method=method,
            recipe=f"porto-ade20k-{recipe}",
        )  # fmt: skip


ROWS: tuple[Published, ...] = tuple(_rows())
