"""Figures of work after these papers, on data that no recipe is for; DRIVE is one of the described data sets."""

from __future__ import annotations

from collections.abc import Iterator

from miseg.recipes.published.rows import Published

CWMI = "Lu et al. (2025): Complex wavelet mutual information loss"
PENG = "Peng et al. (2021): semi-supervised segmentation with mutual information regularization"

_METHODS = {
    "class-balanced CE": "CrossEntropy",
    "Dice": "Dice",
    "RMI": "RegionMutualInformation",
    "CWMI": "ComplexWaveletMutualInformation",
}
_FIGURES = {
    "SNEMI3D": (75.1, 76.7, 76.7, 77.9),
    "GlaS": (80.8, 81.6, 83.9, 84.5),
    "drive": (77.0, 77.5, 78.6, 80.1),
    "Massachusetts Roads": (73.0, 76.2, 76.4, 77.3),
}
"""Of each method in the order of `_METHODS`; their standard deviations over folds are 0.2 to 2.7."""

_DICE = {"5 % of the labels, supervised": 62.0, "5 % of the labels, semi-supervised": 85.5, "all labels": 89.2}


def _rows() -> Iterator[Published]:
    for data, figures in _FIGURES.items():
        for (row, method), value in zip(_METHODS.items(), figures, strict=True):
            yield Published(
                paper=CWMI, table="its table of losses", data=data, system="U-Net, folds drawn anew for each loss",
                row=row, method=method, metric="image_mean_iou", value=value, baseline=figures[0],
                ours="method" if data == "drive" else "none",
            )  # fmt: skip
    for row, value in _DICE.items():
        yield Published(
            paper=PENG, table="its table of ACDC", data="ACDC", system="", row=row, method="", metric="mean_dice",
            value=value, ours="none",
        )  # fmt: skip


ROWS: tuple[Published, ...] = tuple(_rows())
