"""A study's numbers as rows: what the page, the Markdown and the CSV files all say, each from the same values.

Scores are in % and differences in points of %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from mlflow.entities import Run

from miseg.evaluation.paired import PairedDifference, compare, compare_scores
from miseg.metric_names import FURTHER_SCORES, MEAN_IOU, MICRO_IOU, PIXEL_ACCURACY, TRAIN_MATCH_MEAN_IOU
from miseg.recipes.published import claims
from miseg.service.remarks import counted
from miseg.service.reports.reported_study import SCORES, ReportedRow, ReportedStudy, ReportedTable
from miseg.service.reports.runs import SAME
from miseg.service.reports.words import (
    claimed,
    data_and_labels,
    gain,
    give_or_take,
    number,
    one_class,
    signed,
    system,
)


@dataclass(frozen=True, eq=False)
class Result:
    """One row of a table; nan where something is not known."""

    line: ReportedRow
    table: ReportedTable
    baseline: bool
    system: str
    """The network and the length of the training."""
    scores: Mapping[str, float]
    """Means over seeds, %."""
    low: float
    """Mean IoU of the lowest seed, %."""
    high: float
    difference: PairedDifference | None
    """To the baseline; None for the baseline itself, and where there is nothing to pair."""
    comparisons: int
    both_one_class: bool = False
    """Whether it and the baseline predict one class everywhere on every seed of both: there is no difference then."""

    @property
    def one_class(self) -> bool:
        """Whether every seed predicts one class everywhere."""
        return all(seeded.one_class for seeded in self.line.seeds.values())

    @property
    def points(self) -> float:
        """Mean IoU less the baseline's over the seeds and images of both."""
        return math.nan if self.difference is None else 100 * self.difference.estimate

    @property
    def half(self) -> float:
        """Half the width of its interval, points."""
        return math.nan if self.difference is None else 100 * self.difference.half_width(self.comparisons)

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.difference is not None and self.difference.told_apart(self.comparisons)

    @property
    def outcome(self) -> str:
        """The verdict in a word or two."""
        if self.baseline:
            return "baseline"
        if self.difference is None:
            return "not comparable"
        if math.isnan(self.half):
            return "no interval"
        if not self.told_apart:
            return "not told apart"
        return "above" if self.points > 0 else "below"

    @property
    def runs(self) -> list[Run]:
        """The runs that its numbers are of, by seed."""
        return [seeded.evaluation or seeded.run for _, seeded in sorted(self.line.seeds.items())]

    @property
    def verdict(self) -> str:
        """A sentence: the difference with its interval, where it was measured, and what it says."""
        base, where = self.table.baseline, data_and_labels(self.table)
        baseline = baseline_of(self.table)
        of_baseline = "" if baseline is None else one_class(baseline)
        if self.both_one_class:
            return (
                f"{self.line.name} {one_class(self.line)} on {where}, and {base} {of_baseline}: their scores tell the "
                "share of the pixels of a class, and nothing of the methods. Train for more steps."
            )
        if self.difference is None:
            return f"{self.line.name}: no seed in common with {base} on {where}, so nothing is paired."
        difference = self.difference
        text = f"{self.line.name} − {base} = {signed(self.points)}{give_or_take(self.half)}"
        text += f" on {where}, {self.system}"
        over = f"over {counted(difference.seeds, 'seed')} and {counted(difference.images, 'image')}"
        if difference.images < 2:
            reason = "there is one image" if difference.images else "images were not counted one by one"
            over = f"over {counted(difference.seeds, 'seed')} alone, because {reason}"
        if math.isnan(self.half):
            reason = "the images left out one at a time leave no class"
            if difference.seeds < 2:
                reason = "one seed says nothing of how trainings differ"
            return f"{text}: {reason}, so there is no interval and no verdict."
        meaning = {"above": f"above {base}", "below": f"below {base}", "not told apart": "not told apart"}
        text += f" ({over}): {meaning[self.outcome]}."
        if self.outcome == "not told apart":
            needed = difference.seeds_needed(self.comparisons)
            if needed is not None:
                text += f" A difference of this size would show with {needed} seeds."
        return f"{text} {base} {of_baseline}." if of_baseline else text

    @property
    def record(self) -> dict[str, object]:
        """The row of `results.csv`."""
        difference = self.difference
        return {
            "data": self.table.data,
            **self.table.labels,
            "supervision": self.table.supervision,
            "split": self.table.split,
            "row": self.line.name,
            "method": self.line.method,
            "recipe": self.line.recipe,
            "system": self.system,
            "seeds": len(self.line.seeds),
            "mean_iou": number(self.scores.get(MEAN_IOU)),
            "mean_iou_lowest": number(self.low),
            "mean_iou_highest": number(self.high),
            "mean_iou_train_match": number(self.scores.get(TRAIN_MATCH_MEAN_IOU)),
            "micro_iou": number(self.scores.get(MICRO_IOU)),
            "pixel_accuracy": number(self.scores.get(PIXEL_ACCURACY)),
            **{name: number(self.scores.get(name)) for name in FURTHER_SCORES},
            "baseline": self.table.baseline,
            "difference": number(self.points),
            "half_width": number(self.half),
            "standard_error_of_seeds": number(None if difference is None else 100 * math.sqrt(difference.of_seeds)),
            "standard_error_of_images": number(None if difference is None else 100 * math.sqrt(difference.of_images)),
            "paired_seeds": "" if difference is None else difference.seeds,
            "paired_images": "" if difference is None else difference.images,
            "comparisons": self.comparisons,
            "outcome": self.outcome,
            "one_class": one_class(self.line),
            "published_gain": claimed(self.line.method),
            "runs": " ".join(run.info.run_id for run in self.runs),
            "verdict": "" if self.baseline else self.verdict,
        }


def results(table: ReportedTable) -> list[Result]:
    """The rows of a table, the best first, each beside the baseline."""
    base = baseline_of(table)
    alike = [base is not None and line is not base and _both_one_class(line, base) for line in table.lines]
    differences = [
        None if base is None or line is base or none_differs else difference(line, base)
        for line, none_differs in zip(table.lines, alike, strict=True)
    ]
    comparisons = sum(paired is not None and not math.isnan(paired.error) for paired in differences)
    rows = []
    for line, paired, none_differs in zip(table.lines, differences, alike, strict=True):
        by_name = {
            name: [100 * seeded.scores[name] for seeded in line.seeds.values() if name in seeded.scores]
            for name in SCORES
        }
        if not (ious := by_name[MEAN_IOU]):
            continue
        means = {name: fmean(values) for name, values in by_name.items() if values}
        about = line, table, line is base, system(line, table)
        rows.append(Result(*about, means, min(ious), max(ious), paired, comparisons, none_differs))
    return sorted(rows, key=lambda row: -row.scores[MEAN_IOU])


def _both_one_class(line: ReportedRow, base: ReportedRow) -> bool:
    return all(seeded.one_class for row in (line, base) for seeded in row.seeds.values())


def difference(line: ReportedRow, base: ReportedRow) -> PairedDifference | None:
    """Paired by seed and image, or by seed alone where a training of either has no counts of its images."""
    counts = [
        {seed: seeded.images for seed, seeded in row.seeds.items() if seeded.images is not None} for row in (line, base)
    ]
    both = line.seeds.keys() & base.seeds.keys()
    if both and both <= counts[0].keys() & counts[1].keys() and (compared := compare(*counts)) is not None:
        return compared
    scores = [
        {seed: seeded.scores[MEAN_IOU] for seed, seeded in row.seeds.items() if MEAN_IOU in seeded.scores}
        for row in (line, base)
    ]
    return compare_scores(*scores)


def baseline_of(table: ReportedTable) -> ReportedRow | None:
    """The line that the plan names, also where the search found that the published setting is the best."""
    names = {SAME.sub("", line.name): line for line in table.lines}
    if (named := names.get(SAME.sub("", table.baseline))) is not None or not table.baseline.endswith(" tuned"):
        return named
    cells = {cell.id for cell in table.cells if table.baseline in cell.rows}
    return next((line for line in table.lines if line.cell in cells and line.name.endswith("(= tuned)")), None)


def answer(study: ReportedStudy, rows: Sequence[Result]) -> str:
    """The page's first paragraph: what was found, in words."""
    compared = [row for row in rows if not row.baseline and row.difference is not None and not math.isnan(row.half)]
    if not rows:
        return "Nothing is measured yet, so there is no answer. What the plan has and MLflow has not is listed below."
    kinds = {kind: sum(row.outcome == kind for row in compared) for kind in ("above", "below", "not told apart")}
    parts = []
    if compared:
        by = "a 95 % interval"
        if len(compared) > 1:
            by = "intervals that hold together within each table with 95 % probability"
        parts.append(
            f"Of {counted(len(compared), 'comparison')} with a baseline, {kinds['above']} came out above it, "
            f"{kinds['below']} below, and {kinds['not told apart']} cannot be told apart from it by {by}."
        )
    else:
        parts.append("No row can be compared with its baseline by an interval yet.")
    for table in study.tables:
        own = [row for row in rows if row.table is table]
        if own and all(row.one_class for row in own):
            each = "the only row" if len(own) == 1 else "every row"
            parts.append(
                f"On {data_and_labels(table)} {each} predicts one class everywhere, so nothing is compared there: "
                "train for more steps."
            )
        elif own:
            best = own[0]
            text = (
                f"On {data_and_labels(table)} {best.line.name} has the highest mean IoU, {best.scores[MEAN_IOU]:.1f} %"
            )
            if best.difference is not None:
                text += f" ({against(best)} over {table.baseline})"
            parts.append(text + ".")
            if single := [row.line.name for row in own if row.one_class]:
                verb = "predicts" if len(single) == 1 else "predict"
                parts.append(f"{' and '.join(single)} {verb} one class everywhere there.")
    rmi = [row for row in rows if row.line.method == "RegionMutualInformation" and row.difference is not None]
    if rmi:
        verdicts = [
            f"{row.line.name} {against(row)} over {row.table.baseline} on {data_and_labels(row.table)}" for row in rmi
        ]
        reports = claims("RegionMutualInformation").items()
        papers = " and ".join(f"{paper.partition(':')[0]} report {gain(span)}" for paper, span in reports)
        parts.append(f"For the RMI loss {papers} points over their baselines; here: {'; '.join(verdicts)}.")
    if missing := sum(len(table.missing) for table in study.tables):
        are = "is" if missing == 1 else "are"
        parts.append(f"{counted(missing, 'part')} of the plan {are} missing (listed below).")
    return " ".join(parts)


def against(row: Result) -> str:
    """A difference with its interval, for a sentence; one without says so."""
    return signed(row.points) + (give_or_take(row.half) or " without an interval")
