"""Wording of a report: names of data and systems, and numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from miseg.file_names import last_name
from miseg.networks.architectures import ARCHITECTURES
from miseg.one_class import phrase
from miseg.recipes.published import claims
from miseg.service.remarks import counted
from miseg.service.reports.reported_study import ReportedRow, ReportedTable

NAMES = {
    "camvid": "CamVid",
    "embedded": "embedded scenes",
    "voc": "VOC 2012",
    "voc-aug": "VOC 2012 (trainaug)",
    "cityscapes": "Cityscapes",
    "ade20k": "ADE20K",
    "potsdam": "Potsdam",
    "coco-stuff-15": "COCO-Stuff-15",
    "sentinel2-flanders": "Sentinel-2 series of Flanders",
}
NETWORKS = {
    "UNet": "U-Net",
    "DeepLab": "DeepLab",
    "VGG": "VGG trunk",
    "InfoSegNetwork": "InfoSeg network",
    "PatchEncoder": "patch encoder",
}


def data_and_labels(table: ReportedTable) -> str:
    """The data and the labels, in words, and the network where a study was asked for one."""
    return _data_and_labels(table) + (f" on {table.network}" if table.network else "")


def _data_and_labels(table: ReportedTable) -> str:
    name = NAMES.get(table.data, last_name(table.data))
    if table.supervision == "none":
        return f"{name} without labels"
    if table.budget in ("all", "", "None"):
        return name
    label_kind = "labelled pixels a class" if table.supervision == "few" else "labelled images"
    return f"{name} with {table.budget} {label_kind}"


def system(line: ReportedRow, table: ReportedTable) -> str:
    """The network and the steps of the line's first training, and what is to be known of its clusters."""
    params = next(iter(line.seeds.values())).run.data.params
    parts = []
    for key in ("method.network", "method.trunk", "method.encoder"):
        if key in params:
            name = NETWORKS.get(params[key], params[key])
            if name == "DeepLab":
                name = f"DeepLab{params.get('network.version', '').upper()}, {params.get('network.encoder', 'ResNet')}"
            elif name == "EncoderDecoder":
                architecture = ARCHITECTURES.get(params.get("network.architecture", ""))
                name = f"{architecture.title if architecture else name}, {params.get('network.encoder', '')}"
            parts.append(name)
            break
    steps = params.get("steps") or next((cell.steps for cell in table.cells if cell.id == line.cell), None)
    if steps is not None:
        parts.append(f"{int(steps):,} steps")
    tags_of_seeds = [(seeded.evaluation or seeded.run).data.tags for seeded in line.seeds.values()]
    if any(tags.get("miseg.match", "").startswith("many to one") for tags in tags_of_seeds):
        parts.append("clusters matched many to one")
    if only := one_class(line):
        parts.append(only)
    if collapsed := sum(tags.get("miseg.collapsed", "no") != "no" for tags in tags_of_seeds):
        parts.append(f"clusters collapsed on {counted(collapsed, 'seed')}")
    return ", ".join(parts)


def one_class(line: ReportedRow) -> str:
    """Predicate such as "predicts one class (sky) everywhere on 1 of 3 seeds"; "" where no seed does."""
    return phrase([seeded.one_class for seeded in line.seeds.values()])


def claimed(method: str) -> str:
    """Gains that the papers report of a method over their baselines, in points, in words."""
    by_author = {re.split(r"[ ,]", paper)[0]: span for paper, span in claims(method).items()}
    return "; ".join(f"{author} {gain(span)}" for author, span in by_author.items())


def gain(span: tuple[float, float] | None) -> str:
    """A range of points, with its signs."""
    return "" if span is None else f"{signed(span[0])} to {signed(span[1])}"


def decimal(value: float) -> str:
    """A number with one digit after the point; what rounds to 0 has no sign."""
    return f"{round(value, 1) + 0.0:.1f}".replace("-", "−")


def signed(value: float) -> str:
    """A number with its sign and one digit; what rounds to 0 has none."""
    return decimal(value) if round(value, 1) <= 0 else f"+{decimal(value)}"


def grouped(missing: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Missing parts of a plan by what is wrong with them, such as "not begun", each in a line of its own."""
    subjects: dict[str, list[str]] = {}
    for part in missing:
        subject, _, reason = part.rpartition(": ")
        subjects.setdefault(reason, []).append(subject)
    return list(subjects.items())


def give_or_take(half: object) -> str:
    """Half an interval as what follows a difference, in points; nothing where it is not known.

    No difference of mean IoU is above 100 points: of an interval that wide the width tells nothing more.
    """
    if not isinstance(half, int | float) or math.isnan(half):
        return ""
    return " ± over 100" if half > 100 else f" ± {half:.1f}"


def number(value: float | None) -> float | str:
    """A value for a CSV file, with four digits after the point; empty where there is none."""
    return "" if value is None or math.isnan(value) else round(float(value), 4)
