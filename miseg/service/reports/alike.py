"""Conditions that make the rows of a table comparable: checked on the runs themselves, and said on the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from miseg.service.reports.reported_study import ReportedRow, ReportedTable, TrainedSeed
from miseg.service.tracking.registry import clearness_of, labels_of

Reading = Callable[[TrainedSeed], str | None]


def _tag(name: str) -> Reading:
    return lambda seeded: (seeded.evaluation or seeded.run).data.tags.get(name)


def _param(name: str) -> Reading:
    return lambda seeded: seeded.run.data.params.get(name)


OF_TABLE: dict[str, Reading] = {
    "data": _tag("miseg.data_fingerprint"),
    "size": _param("augmentation.resize"),
    "labels": lambda seeded: labels_of(seeded.run.data.params),
    "clear": lambda seeded: clearness_of(seeded.run.data.params),
}
"""Conditions that all rows of a table share, as a run has them; None where it does not say."""

OF_CELL: dict[str, Reading] = {"steps": _param("steps")}
"""Conditions that the rows of one tuning share: a study of equal seconds has other steps for each method."""


def keep_alike(table: ReportedTable) -> None:
    """Take out trained seeds of other conditions than most, name each as missing, and note what the others share."""
    shared: dict[str, str] = {}
    for condition, reading in OF_TABLE.items():
        if usual := _keep_usual(table, table.lines, condition, reading):
            shared[condition] = usual
    for condition, reading in OF_CELL.items():
        of_cells = {
            _keep_usual(table, [line for line in table.lines if line.cell == cell.id], condition, reading)
            for cell in table.cells
        } - {""}
        if len(of_cells) == 1:
            shared[condition] = of_cells.pop()
    table.lines = [line for line in table.lines if line.seeds]
    table.alike = shared


def _keep_usual(table: ReportedTable, lines: Sequence[ReportedRow], condition: str, reading: Reading) -> str:
    """Keep the seeds of the commonest value of a condition, of equally common ones the first; that value, or ""."""
    values = {(line.name, seed): reading(seeded) for line in lines for seed, seeded in line.seeds.items()}
    counted = Counter(value for value in values.values() if value is not None)
    if not counted:
        return ""
    usual = counted.most_common(1)[0][0]
    for line in lines:
        for seed in list(line.seeds):
            value = values[line.name, seed]
            if value not in (None, usual):
                del line.seeds[seed]
                table.missing.append(
                    f"{line.cell}: {line.name}, seed {seed}: {condition} {value} where the others have {usual}, so it "
                    "compares with none of them and is left out"
                )
    return usual


def sentence(table: ReportedTable) -> str:
    """Sentence on what the rows share; "" where their runs do not say."""
    words = {
        "data": lambda value: f"data {value}",
        "size": lambda value: (
            "images of their own size" if value == "None" else f"images at {value.strip('[]()').replace(', ', 'x')}"
        ),
        "labels": lambda value: "all labels, or the method's number" if value == "None" else f"{value} labels",
        "clear": lambda value: f"chips of which {float(value):.0%} or more is valid",
        "steps": lambda value: f"{value} steps",
    }
    parts = [words[condition](value) for condition, value in table.alike.items()]
    return f"All rows have in common: {', '.join(parts)}." if parts else ""
