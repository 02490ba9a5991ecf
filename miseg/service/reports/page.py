"""A report as files: a page that needs nothing else, Markdown with its figures, and CSV with the numbers of both."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from miseg.files import replacing
from miseg.metric_names import FURTHER_SCORES, IMAGE_MEAN_IOU, OVERLAP_SCORES, TITLES, TRAIN_MATCH_MEAN_IOU
from miseg.recipes.catalog import RECIPES
from miseg.service.reports.alike import sentence
from miseg.service.reports.content import Content, address
from miseg.service.reports.papers import Beside
from miseg.service.reports.pictures import EXTREMES, data_uri
from miseg.service.reports.reported_study import ReportedRow, ReportedTable
from miseg.service.reports.words import NAMES, data_and_labels, decimal, give_or_take, grouped, signed
from miseg.service.tracking.description import CONCURRENT, KIND, order_text
from miseg.service.tracking.provenance import code_of
from miseg.service.training.artifacts import write_table

PAGE, MARKDOWN, FIGURES = "report.html", "report.md", "figures"
OF_PAPERS_ALONE = {"mean_dice": "mean Dice"}
"""Titles of what the papers measured and miseg does not log."""

RESULTS, PAPERS, CLASSES, IMAGES = "results.csv", "papers.csv", "classes.csv", "images.csv"

GLYPHS = {
    "above": "▲",
    "below": "▼",
    "not told apart": "○",
    "no interval": "",
    "not comparable": "",
    "baseline": "",
}


def _put(path: Path, text: str) -> None:
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def write(content: Content, folder: Path, now: datetime.datetime | None = None) -> list[Path]:
    """Write the files into `folder`, which is made where it is missing; their paths, the page first."""
    folder.mkdir(parents=True, exist_ok=True)
    written = f"{now or datetime.datetime.now():%Y-%m-%d %H:%M}"
    tables = {
        RESULTS: [row.record for row in content.rows],
        PAPERS: [record for rows in content.papers.values() for row in rows for record in row.records],
        CLASSES: [record for section in content.sections for record in section.class_records],
        IMAGES: [record for part in content.sections if part.pictures for record in part.pictures.images],
    }
    (folder / FIGURES).mkdir(exist_ok=True)
    drawn = {folder / name: svg for at in range(len(content.sections)) for name, _, svg in drawings(content, at)}
    for path, svg in drawn.items():
        _put(path, svg)
    for name, records in tables.items():
        if records:
            with replacing(folder / name) as new:
                write_table(new, records[0], (record.values() for record in records))
    # A report that is killed leaves the page of before, or one whose tables are there.
    _put(folder / MARKDOWN, markdown(content, written))
    _put(folder / PAGE, html(content, written))
    # Last what is an earlier report's alone: the page of before shows it.
    for name, records in tables.items():
        if not records:
            (folder / name).unlink(missing_ok=True)
    for outdated in set((folder / FIGURES).glob("*.svg")) - set(drawn):
        outdated.unlink()
    return [folder / PAGE, folder / MARKDOWN, *(folder / name for name, records in tables.items() if records)]


def html(content: Content, written: str) -> str:
    """The page; whatever names hold is text there, and nothing on it is fetched."""
    return _rendered("report.html.j2", content, written, autoescape=True)


def markdown(content: Content, written: str) -> str:
    """The same in words and tables, with the figures as files; the page alone has the pictures."""
    return _rendered("report.md.j2", content, written, trim_blocks=True, keep_trailing_newline=True)


def _rendered(template: str, content: Content, written: str, **options: Any) -> str:
    # The page asks for escaping; Markdown is text.
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, undefined=StrictUndefined, **options)  # noqa: S701
    environment.filters["plain"] = _plain
    study = content.study
    return environment.get_template(template).render(
        title=title(content),
        written=written,
        content=content,
        found=study,
        page=PAGE,
        records={row: row.record for row in content.rows},
        addresses={run.info.run_id: address(study.uri, run) for row in content.rows for run in row.runs},
        glyphs=GLYPHS,
        metrics={name: TITLES[name] for name in (*OVERLAP_SCORES, IMAGE_MEAN_IOU)} | OF_PAPERS_ALONE,
        names=NAMES,
        split_text=split_text,
        comparable=comparable,
        matched=matched,
        further=further,
        worst_class=worst_class,
        sources_of=sources,
        extremes=extremes,
        drawings=drawings,
        reproduce=reproduce(content),
        again=again(content),
        cell=_cell,
        delta=_delta,
        filled=filled,
        give_or_take=give_or_take,
        decimal=decimal,
        signed=signed,
        missing=grouped(content.missing),
        budgets=[cell for table in study.tables for cell in table.cells],
        svg_uri=lambda svg: data_uri("image/svg+xml", svg.encode()),
    )


def drawings(content: Content, at: int) -> list[tuple[str, str, str]]:
    """The figures of a section: the file that Markdown shows, what it is, and its SVG."""
    section = content.sections[at]
    figures_of_page = [
        ("differences", f"Difference of mean IoU to {section.table.baseline}, with intervals", section.differences),
        ("curves", "Learning curves", section.curves),
        ("classes", "IoU of each class", section.classes),
    ]
    figures_of_page += [
        (f"knobs-{number}", f"What each knob did: {search.cell.id}", search.figure)
        for number, search in enumerate(section.searches, 1)
    ]
    return [(f"{FIGURES}/{at + 1}-{name}.svg", caption, svg) for name, caption, svg in figures_of_page if svg]


def title(content: Content) -> str:
    """Title of the page."""
    kind = "Study" if content.study.kind == "study" else "Tuning"
    return f"{kind} {content.study.name}"


def split_text(table: ReportedTable) -> str:
    """Sentence on the split that the scores are of, and on how clusters became classes there."""
    measured = any(seeded.evaluation is not None for line in table.lines for seeded in line.seeds.values())
    caveat = "which the trials were compared on too, by other seeds"
    if table.split == "test":
        text = "Scores on the test split, which was read once, after all choices were made."
    elif measured:
        text = f"Scores on the {table.split} split, {caveat if table.split == 'val' else 'measured after training'}."
    else:
        text = f"Scores on the validation split after the last step, {caveat}: the test split has not been read."
    if table.supervision == "none":
        text += " Clusters are matched with classes on these images themselves, as in the papers, which flatters"
        text += "; by the match that training images give, the score is beside it." if matched(table) else "."
    return text


def comparable(table: ReportedTable) -> str:
    """Sentences on what the rows of a table have in common, and on whether its searches are reproducible."""
    searched = [cell.tuning for cell in table.cells if cell.tried]
    numbers = [run.data.tags.get(CONCURRENT, "") for run in searched if run is not None]
    grids = [run is not None and run.data.tags.get(KIND) == "grid" for run in searched]
    # One search that is not reproducible makes a table that is not.
    most = "" if "" in numbers else max(numbers, key=int, default="")
    parts = [sentence(table), order_text(most, grid=all(grids)) if searched else ""]
    return " ".join(filter(None, parts))


def matched(table: ReportedTable) -> bool:
    """Whether there are scores by a match made on the training split."""
    return any(TRAIN_MATCH_MEAN_IOU in seeded.scores for line in table.lines for seeded in line.seeds.values())


def further(table: ReportedTable) -> dict[str, str]:
    """Titles of the scores beside those of the confusion matrix that any row has, by name."""
    known = {name for line in table.lines for seeded in line.seeds.values() for name in seeded.scores}
    return {name: TITLES[name][:1].upper() + TITLES[name][1:] for name in FURTHER_SCORES if name in known}


def worst_class(line: ReportedRow) -> str:
    """Names of the classes whose IoU is lowest, each on one seed or several; "" where no class is known."""
    of_seeds = [seeded.per_class for _, seeded in sorted(line.seeds.items())]
    return " or ".join(dict.fromkeys(min(ious, key=ious.__getitem__) for ious in of_seeds if ious))


def again(content: Content) -> str:
    """Sentence on how the whole is run again."""
    if content.study.kind == "study":
        name = content.study.name
        return f"The whole study goes on, or grows, with: miseg study --resume --name {name}"
    return f"The tuning itself is printed again with --resume --name {content.study.name}."


def reproduce(content: Content) -> list[dict[str, Any]]:
    """For each row its recipe, the code that ran, and the commands for every seed."""
    entries = []
    for row in content.rows:
        first = next(iter(row.line.seeds.values())).run
        changes = ", with changes" if first.data.tags.get("miseg.dirty") == "true" else ""
        code = code_of(first.data.tags).replace("commit ", "Commit ") + f"{changes}."
        recipe = row.line.recipe if row.line.recipe in RECIPES else ""
        runs = []
        for seed, seeded in sorted(row.line.seeds.items()):
            training = seeded.run.info.run_id
            commands = f"miseg train --from-run {training} --name again-{training[:8]}  # seed {seed}"
            anchor = training
            if seeded.evaluation is not None:
                anchor = seeded.evaluation.info.run_id
                commands += f"\nmiseg evaluate --run {training} --role last --split {row.table.split}"
                commands += f"  # was measured as {anchor}"
            runs.append({"commands": commands, "anchor": anchor})
        changed = "tuned" in row.line.name
        entries.append(
            {"row": row.line.name, "place": data_and_labels(row.table), "recipe": recipe, "changed": changed}
            | {"code": code, "runs": runs}
        )
    return entries


def sources(rows: Sequence[Beside]) -> list[str]:
    """Sources of a paper's figures, each once."""
    return list(dict.fromkeys(row.published.source for row in rows if row.published.source))


def extremes(images: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """The images with the largest gains and losses."""
    return list(images) if len(images) <= 2 * EXTREMES else [*images[:EXTREMES], *images[-EXTREMES:]]


def filled(records: Sequence[Mapping[str, object]], key: str) -> bool:
    """Whether any row has something in a column."""
    return any(record[key] not in ("", None) for record in records)


def _cell(value: object) -> str:
    return decimal(value) if isinstance(value, int | float) else "–"


def _delta(value: object, half: object) -> str:
    return signed(value) + give_or_take(half) if isinstance(value, int | float) else "–"


def _plain(text: str) -> str:
    """Text in which Markdown finds no markup of its own, and a renderer no HTML."""
    return re.sub(r"([\\`*_\[\]<>|#$])", r"\\\1", " ".join(text.split()))
