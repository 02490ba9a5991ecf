"""The papers' own figures, row by row, for reports to put beside ours; no figure here was measured by this project.

Beside them lie the differences of what runs here that change such a figure: see `miseg.recipes.differences`.
"""

from __future__ import annotations

from miseg.recipes.published import clusters, few_labels, later, porto, rmi
from miseg.recipes.published.rows import Metric, Published

__all__ = ["PUBLISHED", "Metric", "Published", "claims"]

PUBLISHED: tuple[Published, ...] = (*rmi.ROWS, *porto.ROWS, *clusters.ROWS, *few_labels.ROWS, *later.ROWS)
"""Every row, in the papers' order."""


def claims(method: str) -> dict[str, tuple[float, float]]:
    """Gains in IoU that a paper prints of a method over softmax cross-entropy: lowest and highest, by paper."""
    gains: dict[str, list[float]] = {}
    for row in PUBLISHED:
        printed = not row.change and not row.computed and row.metric != "pixel_accuracy"
        if row.method == method and printed and row.gain is not None:
            gains.setdefault(row.paper, []).append(row.gain)
    return {paper: (min(values), max(values)) for paper, values in gains.items()}
