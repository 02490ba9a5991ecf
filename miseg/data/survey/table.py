"""Tables and lines of a survey, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from miseg.data.survey.duplicates import Copy, NameSeries
from miseg.data.survey.splits import SplitSummary

_ROWS = 60
_PAIRS = 3


def split_table(splits: dict[str, SplitSummary]) -> list[str]:
    """Images by split, with their sizes and their share of ignored pixels."""
    rows: list[tuple[str, ...]] = [("split", "images", "with mask", "smallest", "median", "largest", "ignored pixels")]
    for name, split in splits.items():
        sizes = [f"{height}x{width}" for height, width in (split.smallest, split.median, split.largest)]
        rows.append(
            (name, str(split.images), str(split.masks), *sizes, percent(split.ignored_share) if split.masks else "")
        )
    return aligned(rows)


def class_table(classes: Sequence[str], splits: dict[str, SplitSummary]) -> list[str]:
    """Share of labelled pixels, and images that show it, of each class by split; of many the most frequent."""
    labelled = {name: split for name, split in splits.items() if split.masks}
    shown = list(range(len(classes)))
    if len(classes) > _ROWS:
        total = [sum(split.pixels[label] for split in labelled.values()) for label in shown]
        shown = sorted(sorted(shown, key=lambda label: -total[label])[:_ROWS])
    rows = [("label", "class", *(text for name in labelled for text in (f"{name} pixels", "in images")))]
    for label in shown:
        parts = [
            text
            for split in labelled.values()
            for text in (percent(split.share(label)) if split.shown[label] else "none", str(split.shown[label]))
        ]
        rows.append((str(label), classes[label], *parts))
    lines = aligned(rows, left=2)
    left_out = len(classes) - len(shown)
    return [*lines, f"… and {left_out} classes of fewer pixels: see survey.json"] if left_out else lines


def copy_lines(copies: Sequence[Copy]) -> list[str]:
    """The most alike pairs of images across splits; nothing where there is none."""
    by_splits: dict[tuple[str, str], list[Copy]] = {}
    for copy in copies:
        by_splits.setdefault(copy.splits, []).append(copy)
    lines = []
    for (earlier, later), pairs in by_splits.items():
        listed = ", ".join(f"{copy.ids[1]} = {copy.ids[0]} ({copy.likeness:.2f})" for copy in pairs[:_PAIRS])
        more = ", …" if len(pairs) > _PAIRS else ""
        lines.append(f"near-duplicates, {later} of {earlier}: {len(pairs)} images (likeness): {listed}{more}")
    return lines


def series_lines(series: NameSeries | None, splits: dict[str, SplitSummary]) -> list[str]:
    """Images of a series that have a neighbour in the first split; nothing where there is none."""
    if series is None:
        return []
    reference = next(iter(splits))
    lines = [
        f"names number a series (frames of clips, slices, tiles): {percent(series.alike)} of neighbouring images are "
        "alike"
    ]
    for split, pairs in series.beside.items():
        such = f", such as {pairs[0][0]} beside {pairs[0][1]}" if pairs else ""
        lines.append(f"  {len(pairs)} of {splits[split].images} images of {split} are next to one of {reference}{such}")
    return lines


def percent(share: float) -> str:
    """A share, 0..1, as a percentage of two or three digits; "0 %" for nothing alone."""
    if share == 0:
        return "0 %"
    value = 100 * share
    if value < 0.001:
        return "<0.001 %"
    return f"{value:.3f} %" if value < 0.1 else f"{value:.2f} %" if value < 10 else f"{value:.1f} %"


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Rows of text in columns, the first `left` ones flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if number < left else text.rjust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
