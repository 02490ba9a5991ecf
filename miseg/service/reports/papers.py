"""The papers' rows with ours beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from miseg.recipes.published import PUBLISHED, Published
from miseg.service.reports.tables import Result
from miseg.service.reports.words import number, signed


@dataclass(frozen=True)
class Beside:
    """A row of a paper, and those of ours on the same data by the same method."""

    published: Published
    ours: list[Result] = field(default_factory=list)

    @property
    def records(self) -> list[dict[str, object]]:
        """The rows of `papers.csv`: one for each of ours, or one without."""
        row, results = self.published, list[Result | None](self.ours) or [None]
        theirs: dict[str, object] = {
            "paper": row.paper,
            "table": row.table,
            "data": row.data,
            "labels": row.labels,
            "system": row.system,
            "row": row.row,
            "change": row.change,
            "metric": row.metric,
            "published": number(row.value),
            "published_gain": "" if row.gain is None else signed(row.gain),
            "published_seconds": number(row.seconds),
            "published_classes": "; ".join(f"{name} {value}" for name, value in row.classes),
            "source": row.source,
            "recipe": row.recipe,
        }
        return [
            theirs
            | {
                "our_row": "" if ours is None else ours.line.name,
                "our_system": "" if ours is None else ours.system,
                "ours": number(None if ours is None else ours.scores.get(row.metric)),
                "our_difference": number(None if ours is None else ours.points),
                "our_half_width": number(None if ours is None else ours.half),
                "runs": "" if ours is None else " ".join(run.info.run_id for run in ours.runs),
            }
            for ours in results
        ]


def beside(rows: Sequence[Result]) -> dict[str, list[Beside]]:
    """The papers that a row of ours has a counterpart in, by name: all of their rows, ours beside them.

    A counterpart is a row of the same method; ours stand beside it where data, labels and what is measured agree.
    Those without one, ablations and other changes come last.
    """
    methods = {row.line.method for row in rows}
    papers = dict.fromkeys(published.paper for published in PUBLISHED if published.method in methods)
    by_paper: dict[str, list[Beside]] = {}
    for paper in papers:
        own = [
            Beside(published, [row for row in rows if _same(row, published)])
            for published in PUBLISHED
            if published.paper == paper
        ]
        by_paper[paper] = sorted(own, key=lambda row: (not row.ours, bool(row.published.change)))
    return by_paper


_ABLATIONS = {published.recipe for published in PUBLISHED if published.ours == "recipe"}


def _same(row: Result, published: Published) -> bool:
    measured = row.line.method == published.method and row.table.data == published.data and not row.table.network
    if not measured or published.ours == "none" or row.table.budget != published.labels:
        return False
    if published.ours == "recipe":
        return row.line.recipe == published.recipe
    return row.line.recipe not in _ABLATIONS
