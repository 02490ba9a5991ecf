"""Figures of similarity by mutual information from few labels."""

from __future__ import annotations

from collections.abc import Iterator

from miseg.recipes.published.rows import Published

PAPER = "Sanchez, Serrurier and Ortner: similarity by mutual information, from few labels"

Pair = tuple[float, float]
"""Pixel accuracy and mean IoU, %."""

_SYSTEM = "patches of 13 x 13, labels of the image that is mapped"
_BUDGETS = ("1", "5", "10", "50")
_SIMILARITY, _DATA = "MutualInformationSimilarity", ("potsdam", "potsdam-3")

_BY_LABELS: dict[str, dict[str, tuple[Pair, ...]]] = {
    "global": {
        "potsdam": ((45.76, 27.93), (63.66, 45.98), (71.47, 53.54), (85.17, 67.77)),
        "potsdam-3": ((53.10, 33.33), (66.26, 48.88), (73.62, 56.91), (88.43, 74.07)),
    },
    "local": {
        "potsdam": ((50.13, 33.32), (68.94, 50.85), (76.70, 58.18), (87.17, 70.22)),
        "potsdam-3": ((53.97, 36.32), (72.74, 55.89), (80.45, 64.15), (91.63, 78.66)),
    },
}
"""By what patches are compared by, of each budget."""

_BESIDE_OTHERS: dict[str, tuple[str, str, str, Pair, Pair]] = {
    "raw pixels": ("", "", "L1", (60.73, 39.62), (72.67, 53.37)),
    "variational autoencoder": ("PatchAutoencoder", "autoencoder", "", (58.44, 38.26), (70.45, 52.30)),
    "Deep InfoMax": ("DeepInfoMax", "deep-infomax-as-published", "", (40.63, 21.03), (47.54, 28.87)),
    "similarity, L1": (_SIMILARITY, "similarity-as-published", "compared by L1", (64.98, 45.70), (73.91, 56.85)),
    "Deep InfoMax, by information": (
        "DeepInfoMax",
        "deep-infomax-as-published",
        "compared by information",
        (59.73, 41.14),
        (64.97, 46.49),
    ),
}
"""Of each row the method, the recipe's end, the change, and figures of six and three classes; the others by L1."""

_ABLATIONS: dict[str, tuple[str, Pair, Pair]] = {
    "α 0, no global information": ("similarity-as-published-no-global", (87.24, 70.68), (91.47, 78.63)),
    "γ 0, no L1 term": ("similarity-as-published-no-l1", (86.36, 69.34), (90.26, 76.55)),
    "no jitter": ("similarity-as-published-no-jitter", (87.67, 71.31), (90.97, 78.00)),
    "no flip": ("similarity-as-published-no-flip", (87.30, 70.77), (91.23, 78.15)),
    "no rotation": ("similarity-as-published-no-rotation", (87.59, 70.94), (91.14, 78.19)),
    "no shift": ("similarity-as-published-no-shift", (75.84, 57.10), (79.49, 62.80)),
    "no swap of the representations": ("similarity-as-published-no-swap", (72.30, 54.05), (75.76, 59.18)),
    "no swap, no augmentation": ("similarity-as-published-no-swap-no-augmentation", (59.73, 41.14), (64.97, 46.49)),
    "random φ": ("", (39.94, 23.84), (58.34, 39.86)),
}


def _both(pair: Pair, **about: object) -> Iterator[Published]:
    for metric, value in zip(("pixel_accuracy", "mean_iou"), pair, strict=True):
        yield Published(paper=PAPER, system=_SYSTEM, metric=metric, value=value, **about)  # type: ignore[arg-type]


def _rows() -> Iterator[Published]:
    for compared, by_data in _BY_LABELS.items():
        changed = compared == "global"
        for data, pairs in by_data.items():
            for labels, pair in zip(_BUDGETS, pairs, strict=True):
                yield from _both(
                    pair, table="its table of labels, Potsdam", data=data, row=f"similarity, {compared}",
                    method=_SIMILARITY, recipe=f"{data}-similarity-as-published", labels=labels,
                    ours="none" if changed else "method",
                    change="compared by the global information" if changed else "",
                )  # fmt: skip
    for row, (method, recipe, change, *by_classes) in _BESIDE_OTHERS.items():
        for data, pair in zip(_DATA, by_classes, strict=True):
            yield from _both(
                pair, table="table 2", data=data, row=row, method=method, labels="50", change=change,
                recipe=f"{data}-{recipe}" if recipe else "", ours="none" if change else "method",
            )  # fmt: skip
    for change, (recipe, *by_classes) in _ABLATIONS.items():
        for data, pair in zip(_DATA, by_classes, strict=True):
            own = bool(recipe)
            yield from _both(
                pair, table="table 3", data=data, row=f"similarity, {change}", method=_SIMILARITY, labels="50",
                change=change, recipe=f"{data}-{recipe}" if own else "", ours="recipe" if own else "none",
            )  # fmt: skip


ROWS: tuple[Published, ...] = tuple(_rows())
