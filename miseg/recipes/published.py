"""The papers' own figures, row by row, as far as they are known here, for reports to put beside ours.

Their tables could not be read where this was written (see `miseg.recipes.rmi_paper` and `miseg.recipes.porto`): a
figure that is not in this project's own texts is None, and a page leaves its cell empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Metric = Literal["mean_iou", "micro_iou", "pixel_accuracy"]


@dataclass(frozen=True)
class Published:
    """One row of a paper's table."""

    paper: str
    """Authors, year and title."""
    table: str
    """The table there, or those that it is one of, as far as that is known."""
    data: str
    """The data set by its name here."""
    system: str
    """The network and the length of the training."""
    row: str
    """Name of the row."""
    method: str
    """The class in `miseg.methods.configs`, which finds the same method among our rows."""
    recipe: str
    """The recipe that runs it, a name in `miseg.recipes.catalog.RECIPES`."""
    metric: Metric = "mean_iou"
    value: float | None = None
    """The reported figure, %; None where it is not known here."""
    gain: tuple[float, float] | None = None
    """Points that the paper reports over its own baseline, lowest to highest over its systems; None: not known here."""
    source: str = ""
    """The paper's table that the figure is from, or the text of this project that has it."""


RMI_PAPER = "Zhao, Wang, Yang and Cai (2019): Region mutual information loss for semantic segmentation"
PORTO = "Gonçalves, Capozzi, Rebelo and Cardoso (2024): Deep image segmentation based on mutual information"
INFOSEG = "Harb and Knöbelreiter (2021): InfoSeg, unsupervised semantic image segmentation"
SIMILARITY = "Sanchez, Serrurier and Ortner: similarity by mutual information, from few labels"

_RMI_GAIN = (1.5, 2.6)
_RMI_SOURCE = "tables 1 and 4: RMI less softmax CE, DeepLabV3 and V3+ on VOC val and CamVid test"
_PORTO_GAIN = (-14.0, -7.0)
_PORTO_SOURCE = "miseg/recipes/porto.py; IoU points, over the study's data sets"
_LOSSES = {
    "CE": ("CrossEntropy", "ce"),
    "BCE": ("BinaryCrossEntropy", "bce"),
    "CE + affinity field": ("AffinityField", "affinity"),
    "BCE + RMI": ("RegionMutualInformation", "rmi"),
}
_PORTO_METHODS = {
    "CE": ("CrossEntropy", "ce"),
    "RMI": ("RegionMutualInformation", "rmi"),
    "mutual learning": ("MutualLearning", "mutual"),
}
_CLUSTERS = {
    "K-means of colours": ("PixelKMeans", "kmeans"),
    "Doersch et al., K-means": ("RelativePosition", "relative-position"),
    "Isola et al., K-means": ("CoOccurrence", "co-occurrence"),
    "IIC": ("InvariantInformation", "iic"),
    "InfoSeg": ("InfoSeg", "infoseg"),
}
_ACCURACY = {"IIC": 27.7, "InfoSeg": 36.4}
_POTSDAM_SOURCE = "the paper's table of Potsdam: six classes, 50 points a class, local information"
_FEW_LABELS = {
    "variational autoencoder": ("PatchAutoencoder", "autoencoder"),
    "Deep InfoMax": ("DeepInfoMax", "deep-infomax"),
    "similarity": ("MutualInformationSimilarity", "similarity"),
}


def _rmi() -> list[Published]:
    systems = (
        ("voc-aug", "voc-v3", "DeepLabV3, ResNet-101, 30,000 steps"),
        ("voc-aug", "voc-v3plus", "DeepLabV3+, ResNet-101, 30,000 steps"),
        ("camvid", "camvid-v3plus", "DeepLabV3+, ResNet-101, 6,000 steps"),
    )
    return [
        Published(
            RMI_PAPER,
            "tables 1 to 4",
            data,
            system,
            row,
            method,
            f"{stem}-{loss}",
            gain=_RMI_GAIN if loss == "rmi" else None,
            source=_RMI_SOURCE if loss == "rmi" else "",
        )
        for data, stem, system in systems
        for row, (method, loss) in _LOSSES.items()
    ]


def _porto() -> list[Published]:
    return [
        Published(
            PORTO,
            "tables 1 to 3",
            data,
            "U-Net, 200 epochs",
            row,
            method,
            f"porto-{data}-{name}" + ("" if name == "ce" else "-as-published"),
            "micro_iou",
            gain=None if name == "ce" else _PORTO_GAIN,
            source="" if name == "ce" else _PORTO_SOURCE,
        )
        for data in ("cityscapes", "voc", "ade20k")
        for row, (method, name) in _PORTO_METHODS.items()
    ]


def _clusters() -> list[Published]:
    return [
        Published(
            INFOSEG,
            "",
            "coco-stuff-15",
            "128 x 128, 300 epochs",
            row,
            method,
            f"coco-stuff-15-{name}",
            "pixel_accuracy",
            _ACCURACY.get(row),
            source="the paper's table of COCO-Stuff-15, accuracy" if row in _ACCURACY else "",
        )
        for row, (method, name) in _CLUSTERS.items()
    ]


def _few_labels() -> list[Published]:
    figures: tuple[tuple[Metric, float], ...] = (("pixel_accuracy", 87.2), ("mean_iou", 70.2))
    return [
        Published(
            SIMILARITY,
            "table 2",
            "potsdam",
            "patches of 13 x 13, 50 points a class",
            row,
            method,
            f"potsdam-{name}",
            metric,
            value if name == "similarity" else None,
            source=_POTSDAM_SOURCE if name == "similarity" else "",
        )
        for metric, value in figures
        for row, (method, name) in _FEW_LABELS.items()
    ]


PUBLISHED: tuple[Published, ...] = (*_rmi(), *_porto(), *_clusters(), *_few_labels())
"""Every row, in the papers' order."""


def claims(method: str) -> dict[str, tuple[float, float]]:
    """Gains of a method over its paper's baseline, in points, by paper."""
    return {row.paper: row.gain for row in PUBLISHED if row.method == method and row.gain is not None}
