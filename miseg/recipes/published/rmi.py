"""Figures of the RMI paper."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from miseg.data.sources.camvid import CLASSES
from miseg.recipes.published.rows import Published

PAPER = "Zhao, Wang, Yang and Cai (2019): Region mutual information loss for semantic segmentation"

_VOC = {"v3": "DeepLabV3, ResNet-101, 30,000 steps", "v3plus": "DeepLabV3+, ResNet-101, 30,000 steps"}
_CAMVID = {"v3": "DeepLabV3, ResNet-101, 6,000 steps", "v3plus": "DeepLabV3+, ResNet-101, 6,000 steps"}

_LOSSES = {
    "CE": ("CrossEntropy", "ce"),
    "BCE": ("BinaryCrossEntropy", "bce"),
    "CE + affinity field": ("AffinityField", "affinity"),
    "BCE + RMI": ("RegionMutualInformation", "rmi"),
}

_TABLE_1 = {
    "v3": {"CE": 77.14, "BCE": 77.09, "CE + affinity field": 76.24, "BCE + RMI": 78.71},
    "v3plus": {"CE": 78.17, "BCE": 77.41, "CE + affinity field": 77.09, "BCE + RMI": 79.66},
}
_CRF = {"v3": (78.32, 78.40, 78.28), "v3plus": (78.90, 78.75, 78.60)}
_OF_CHEN = {"v3": 77.21, "v3plus": 78.85}
_SECONDS, _CRF_SECONDS = 0.12, (0.39, 0.71, 1.11)
_ON_TEST = {"v3": 2.00, "v3plus": 1.93}

_TABLE_3 = {
    "DF 4, R 3, interpolation": 77.58,
    "DF 4, R 3, max": 78.62,
    "DF 4, R 3, average": 78.71,
    "DF 2, R 3, average": 79.23,
    "DF 3, R 3, average": 79.01,
    "DF 5, R 3, average": 78.50,
    "DF 6, R 3, average": 78.28,
    "DF 4, R 1, average": 78.25,
    "DF 4, R 2, average": 78.52,
    "DF 4, R 4, average": 78.65,
    "DF 6, R 2, average": 78.06,
    "DF 6, R 4, average": 78.33,
    "DF 6, R 5, average": 78.26,
}

_TABLE_4 = {
    "v3": {
        "CE": (88.06, 79.03, 10.12, 91.32, 73.21, 72.65, 41.04, 39.52, 79.35, 42.43, 54.51, 58.50),
        "CE & CRF": (90.64, 80.48, 4.70, 91.49, 73.64, 74.35, 39.93, 41.98, 80.45, 40.50, 54.20, 58.59),
        "CE + affinity field": (88.23, 78.85, 11.54, 92.77, 76.50, 71.96, 45.41, 39.27, 82.65, 43.26, 54.14, 59.60),
        "BCE + RMI": (89.29, 79.89, 11.64, 92.04, 75.62, 73.39, 48.02, 43.25, 82.01, 46.74, 59.67, 61.11),
    },
    "v3plus": {
        "CE": (90.86, 80.28, 27.62, 93.60, 78.57, 74.35, 44.51, 38.86, 84.35, 51.80, 57.09, 62.82),
        "CE & CRF": (91.88, 80.92, 15.98, 93.20, 78.14, 74.89, 42.14, 39.72, 84.50, 40.74, 56.04, 61.68),
        "CE + affinity field": (90.23, 81.03, 29.83, 93.93, 80.86, 74.75, 47.21, 41.50, 85.12, 54.97, 60.92, 64.42),
        "BCE + RMI": (90.91, 80.50, 28.68, 94.16, 81.28, 73.77, 52.08, 42.72, 83.22, 57.75, 62.57, 65.06),
    },
}
"""IoU of each class in the order of `miseg.data.sources.camvid.CLASSES`, then the mean as it is printed."""


def _table_1() -> Iterator[Published]:
    for version, system in _VOC.items():
        figures = _TABLE_1[version]
        for row, value in figures.items():
            method, loss = _LOSSES[row]
            yield Published(
                paper=PAPER, table="table 1", data="voc-aug", system=system, row=row, method=method,
                recipe=f"voc-{version}-{loss}", value=value, baseline=figures["CE"], seconds=_SECONDS,
            )  # fmt: skip
        for passes, value, seconds in zip((1, 5, 10), _CRF[version], _CRF_SECONDS, strict=True):
            yield Published(
                paper=PAPER, table="table 1", data="voc-aug", system=system, row="CE & CRF", method="CrossEntropy",
                recipe=f"voc-{version}-ce", value=value, baseline=figures["CE"], seconds=seconds,
                change=f"dense CRF, {passes} pass{'es' if passes > 1 else ''}", ours="none",
            )  # fmt: skip
        yield Published(
            paper=PAPER, table="table 1", data="voc-aug", system=system, row="CE of Chen et al.", method="CrossEntropy",
            recipe=f"voc-{version}-ce", value=_OF_CHEN[version], change="as the network's authors report it",
            ours="none",
        )  # fmt: skip
    for version, system in _VOC.items():
        yield Published(
            paper=PAPER, table="its figures of VOC test", data="voc-aug", system=f"{system}, VOC test", row="BCE + RMI",
            method="RegionMutualInformation", recipe=f"voc-{version}-rmi", points=_ON_TEST[version], ours="none",
        )  # fmt: skip


def _table_3() -> Iterator[Published]:
    for change, value in _TABLE_3.items():
        yield Published(
            paper=PAPER, table="table 3", data="voc-aug", system=_VOC["v3"], row="BCE + RMI",
            method="RegionMutualInformation", recipe="voc-v3-rmi", value=value, change=change, ours="none",
        )  # fmt: skip


def _table_4() -> Iterator[Published]:
    for version, system in _CAMVID.items():
        figures = _TABLE_4[version]
        means = {row: round(fmean(values[:-1]), 2) for row, values in figures.items()}
        for row, values in figures.items():
            loss = row.removesuffix(" & CRF")
            method, stem = _LOSSES[loss]
            change = "dense CRF" if loss != row else ""
            recipe = f"camvid-{version}-{stem}"
            yield Published(
                paper=PAPER, table="table 4", data="camvid", row=row, method=method, recipe=recipe, change=change,
                system=f"{system}, CamVid test, the unlabelled class counted as a twelfth",
                value=values[-1], baseline=figures["CE"][-1], ours="none",
            )  # fmt: skip
            yield Published(
                paper=PAPER, table="table 4", data="camvid", row=row, method=method, recipe=recipe, change=change,
                system=f"{system}, CamVid test, eleven classes", value=means[row], baseline=means["CE"], computed=True,
                ours="none" if change else "method", classes=tuple(zip(CLASSES, values[:-1], strict=True)),
            )  # fmt: skip


ROWS: tuple[Published, ...] = (*_table_1(), *_table_3(), *_table_4())
