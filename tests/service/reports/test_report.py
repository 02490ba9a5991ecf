"""A report of a synthetic study whose differences are known: numbers, words, missing parts, and pages that are safe."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from PIL import Image

from miseg.commands import report as report_command
from miseg.evaluation.paired import ImageCounts
from miseg.recipes.published import claims
from miseg.service.reports import content as report_content
from miseg.service.reports import page as report_page
from miseg.service.reports import runs as report_runs
from miseg.service.reports import search as report_search
from miseg.service.reports import tables as report_tables
from miseg.service.reports import words
from miseg.service.reports.content import Content
from miseg.service.reports.pictures import data_uri
from miseg.service.reports.reported_study import ReportedRow, ReportedTable, TrainedSeed
from tests.support.report_store import STEPS, Study

STRANGE = "RMI <script>alert('x')</script> | $a_b$ & \"λ\""
SEEDS = (1, 2, 3)
TRUE = {"RMI tuned": 0.11, "affinity": 0.0, STRANGE: -0.05}


@dataclass
class Written:
    """A report that was written."""

    content: Content
    folder: Path
    page: str
    markdown: str

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.folder / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def write(uri: str, folder: Path, **which: str) -> Written:
    content = report_content.content(report_runs.read(uri, **which))
    report_page.write(content, folder)
    texts = [(folder / name).read_text(encoding="utf-8") for name in (report_page.PAGE, report_page.MARKDOWN)]
    return Written(content, folder, *texts)


@pytest.fixture(scope="module")
def store(template: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A study of two data sets: one whole but for what is said to be missing, one with a single seed."""
    root = tmp_path_factory.mktemp("store")
    shutil.copyfile(template, root / "mlflow.db")
    study = Study(f"sqlite:///{root}/mlflow.db", root)
    rows = {"BCE tuned": ("bce", "BinaryCrossEntropy", 0.30), "affinity": ("affinity", "AffinityField", 0.30)}
    rows["RMI tuned"] = ("rmi", "RegionMutualInformation", 0.41)
    for row, (family, method, level) in rows.items():
        names = [row, STRANGE] if family == "rmi" else [row]
        cell = study.cell(family, method, names, f"camvid-{family}", len(SEEDS), trials=8 if family == "rmi" else 0)
        study.row(cell, row, method, level, SEEDS, pictures=row != "affinity")
    study.row(cell, STRANGE, "RegionMutualInformation", 0.25, SEEDS[:2])
    study.cells.append(study.cells[0] | {"id": "camvid/all/mutual", "method": "MutualLearning", "rows": ["mutual"]})
    other = Study(study.uri, root, data="textures", supervision="none", baseline="K-means")
    cell = other.cell("kmeans", "PixelKMeans", ["K-means"], "textures-kmeans", 1)
    other.row(cell, "K-means", "PixelKMeans", 0.33, [1])
    cell = other.cell("infoseg", "InfoSeg", ["InfoSeg"], "textures-infoseg", 1)
    other.row(cell, "InfoSeg", "InfoSeg", 0.6, [1], pictures=False)
    cell = other.cell("iic", "InvariantInformation", ["IIC"], "textures-iic", 1)
    other.row(cell, "IIC", "InvariantInformation", 0.5, [1], counts=False, pictures=False)
    study.finish([other])
    return study.uri


@pytest.fixture(scope="module")
def report(store: str, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(store, tmp_path_factory.mktemp("report"))


def rows_of(report: Written, data: str = "camvid") -> dict[str, report_tables.Result]:
    return {row.line.name: row for row in report.content.rows if row.table.data == data}


# Numbers


@pytest.mark.slow
@pytest.mark.parametrize("row", TRUE)
def test_an_interval_covers_the_known_difference(report: Written, row: str) -> None:
    found = rows_of(report)[row]
    assert abs(found.points - 100 * TRUE[row]) <= found.half
    # Wide enough to cover, and not so wide that it says nothing.
    assert 0.1 < found.half < (5 if len(found.line.seeds) == 3 else 60)
    assert found.comparisons == 3 and found.difference is not None
    assert (found.difference.seeds, found.difference.images) == (len(found.line.seeds), 30)


def test_the_verdicts_are_the_known_ones(report: Written) -> None:
    found = rows_of(report)
    assert found["RMI tuned"].outcome == "above" and found["affinity"].outcome == "not told apart"
    assert found["BCE tuned"].outcome == "baseline"
    said = found["RMI tuned"].verdict
    assert re.fullmatch(
        r"RMI tuned − BCE tuned = \+1\d\.\d ± \d\.\d on CamVid, U-Net, 200 steps \(over 3 seeds and 30 images\): "
        r"above BCE tuned\.",
        said,
    ), said
    assert "not told apart" in found["affinity"].verdict


def test_scores_are_those_of_the_runs(report: Written, store: str) -> None:
    client = MlflowClient(store)
    for record in report.table(report_page.RESULTS):
        runs = [client.get_run(run_id) for run_id in record["runs"].split()]
        assert len(runs) == int(record["seeds"])
        for name in ("mean_iou", "micro_iou", "pixel_accuracy"):
            values = [100 * run.data.metrics[f"test/{name}"] for run in runs]
            assert float(record[name]) == pytest.approx(sum(values) / len(values), abs=1e-4)
        values = [100 * run.data.metrics["test/mean_iou"] for run in runs]
        assert float(record["mean_iou_lowest"]) == pytest.approx(min(values), abs=1e-4)
        assert float(record["mean_iou_highest"]) == pytest.approx(max(values), abs=1e-4)
        assert {run.data.tags["miseg.row"] for run in runs} == {record["row"]}


def test_further_scores_are_those_of_the_runs_or_of_their_images_and_classes(report: Written, store: str) -> None:
    """The store's runs log the calibration error of all of these; the others follow from what they keep."""
    client = MlflowClient(store)
    for row in report.content.rows:
        for seeded in row.line.seeds.values():
            metrics = client.get_run((seeded.evaluation or seeded.run).info.run_id).data.metrics
            assert seeded.scores.get("expected_calibration_error") == metrics.get("test/expected_calibration_error")
            ious = [value for name, value in metrics.items() if name.startswith("test/iou/")]
            assert seeded.scores.get("worst_class_iou") == (min(ious) if ious else None)
            if seeded.images is not None:
                by_image = [
                    fmean(hits / union for hits, union in zip(*pair, strict=True) if union)
                    for pair in zip(seeded.images.hits_NK, seeded.images.unions_NK, strict=True)
                ]
                assert seeded.scores["image_mean_iou"] == pytest.approx(fmean(by_image))
    found = [row for row in Page.of(report.page).rows if "worst_class_iou" in row]
    records = [record for record in report.table(report_page.RESULTS) if record["worst_class_iou"]]
    assert found and [row["cell 0"] for row in found] == [record["row"] for record in report.table(report_page.RESULTS)]
    for row, record in zip(found, report.table(report_page.RESULTS), strict=True):
        shown = re.match(r"[\d.–]+", row["worst_class_iou"])
        assert shown is not None and shown[0] == rounded(record["worst_class_iou"])
        for name in ("image_mean_iou", "worst_quarter_iou", "expected_calibration_error"):
            assert row[name] == rounded(record[name])
    assert any(record["expected_calibration_error"] for record in records)
    names = {name for row in report.content.rows for seeded in row.line.seeds.values() for name in seeded.per_class}
    assert any(row["worst_class_iou"].endswith(tuple(names)) for row in found)
    assert (
        "| Image mean IoU | Worst class IoU | Worst quarter IoU | Calibration error | worst class |" in report.markdown
    )


def test_one_seed_says_that_it_knows_nothing_of_seeds(report: Written) -> None:
    found = rows_of(report, "textures")
    for row in ("InfoSeg", "IIC"):  # with counts of its images, and without
        said = "one seed says nothing of how trainings differ, so there is no interval and no verdict."
        assert found[row].verdict.endswith(said) and "±" not in found[row].verdict
        assert math.isnan(found[row].half) and found[row].outcome == "no interval" and not found[row].told_apart
        assert found[row].comparisons == 0
    records = {record["row"]: record for record in report.table(report_page.RESULTS)}
    assert (records["InfoSeg"]["half_width"], records["InfoSeg"]["outcome"]) == ("", "no interval")
    answer = report.content.answer
    assert re.search(
        r"On textures without labels InfoSeg has the highest mean IoU, [\d.]+ % "
        r"\(\+\d+\.\d without an interval over K-means\)",
        answer,
    ), answer
    assert found["IIC"].points == pytest.approx(17, abs=4)


def test_rows_without_images_are_compared_over_seeds(uri: str, tmp_path: Path) -> None:
    study = Study(uri, tmp_path)
    cell = study.cell("bce", "BinaryCrossEntropy", ["BCE tuned"], "camvid-bce", 3)
    study.row(cell, "BCE tuned", "BinaryCrossEntropy", 0.3, SEEDS, pictures=False)
    cell = study.cell("ce", "CrossEntropy", ["CE"], "camvid-ce", 3)
    study.row(cell, "CE", "CrossEntropy", 0.5, SEEDS, counts=False, pictures=False)
    study.finish()
    found = rows_of(write(uri, tmp_path / "out"))["CE"]
    assert "over 3 seeds alone, because images were not counted one by one" in found.verdict
    assert abs(found.points - 20) < found.half and found.outcome == "above"


# Words


def test_what_is_missing_is_named(report: Written) -> None:
    assert report.content.missing == [f"camvid/all/rmi: {STRANGE}: 2 of 3 seeds", "camvid/all/mutual: not begun"]
    assert "2 parts of the plan are missing" in report.content.answer
    parsed = Page.of(report.page)
    assert "Missing, not begun: camvid/all/mutual" in parsed.text
    assert "- not begun: camvid/all/mutual" in report.markdown


def test_the_answer_comes_first_and_names_the_papers_claims(report: Written) -> None:
    answer = report.content.answer
    assert answer.startswith("Of 3 comparisons with a baseline, ")
    best = rows_of(report)["RMI tuned"]
    assert f"RMI tuned {report_tables.against(best)} over BCE tuned on CamVid" in answer
    for span in claims("RegionMutualInformation").values():
        assert words.gain(span) in answer
    assert report.page.index('id="answer"') < report.page.index("<table")


def test_a_study_that_has_only_begun_is_reported(uri: str, tmp_path: Path) -> None:
    study = Study(uri, tmp_path)
    study.cells.append({"id": "camvid/all/ce", "method": "CrossEntropy", "recipe": "camvid-ce", "rows": ["CE"]})
    study.finish()
    report = write(uri, tmp_path / "out")
    assert report.content.missing == ["camvid/all/ce: not begun"]
    assert "Nothing is measured yet" in report.content.answer and "Nothing is measured here yet" in report.page
    assert not (tmp_path / "out" / report_page.RESULTS).exists()


def test_before_the_test_split_is_read_validations_stand(uri: str, tmp_path: Path) -> None:
    study = Study(uri, tmp_path)
    for family, row, level in (("bce", "BCE tuned", 0.3), ("ce", "CE", 0.5)):
        cell = study.cell(family, "CrossEntropy", [row], f"camvid-{family}", 3)
        study.row(cell, row, "CrossEntropy", level, SEEDS, test=False)
    study.finish()
    report = write(uri, tmp_path / "out")
    assert "the test split has not been read" in report.page
    assert {record["split"] for record in report.table(report_page.RESULTS)} == {"val"}
    assert rows_of(report)["CE"].outcome == "above"


def test_a_data_set_has_a_table_for_each_kind_of_label(uri: str, tmp_path: Path) -> None:
    study = Study(uri, tmp_path, name="kinds")
    cell = study.cell("ce", "CrossEntropy", ["CE tuned"], "camvid-ce", 1)
    study.row(cell, "CE tuned", "CrossEntropy", 0.4, [1], pictures=False)
    (tmp_path / "none").mkdir()
    other = Study(uri, tmp_path / "none", name="kinds", supervision="none", baseline="K-means tuned")
    cell = other.cell("kmeans", "PixelKMeans", ["K-means tuned"], "camvid-kmeans", 1)
    other.row(cell, "K-means tuned", "PixelKMeans", 0.2, [1], pictures=False)
    study.finish([other])
    report = write(uri, tmp_path / "out")
    assert [section.title for section in report.content.sections] == ["CamVid", "CamVid without labels"]
    assert [[row.line.name for row in one.rows] for one in report.content.sections] == [["CE tuned"], ["K-means tuned"]]
    assert report.content.missing == []


def test_a_missing_baseline_is_no_error(uri: str, tmp_path: Path) -> None:
    study = Study(uri, tmp_path)
    cell = study.cell("ce", "CrossEntropy", ["CE"], "camvid-ce", 3)
    study.row(cell, "CE", "CrossEntropy", 0.5, SEEDS, pictures=False)
    study.finish()
    report = write(uri, tmp_path / "out")
    assert rows_of(report)["CE"].verdict == "CE: no seed in common with BCE tuned on CamVid, so nothing is paired."
    assert "No row can be compared with its baseline by an interval yet." in report.content.answer


def test_a_published_setting_that_won_is_the_tuned_row_too(uri: str, tmp_path: Path) -> None:
    study = Study(uri, tmp_path)
    rows = ["BCE tuned", "BCE as published"]
    cell = study.cell("bce", "BinaryCrossEntropy", rows, "camvid-bce", 3)
    study.row(cell, "BCE as published (= tuned)", "BinaryCrossEntropy", 0.3, SEEDS, pictures=False)
    cell = study.cell("ce", "CrossEntropy", ["CE"], "camvid-ce", 3)
    study.row(cell, "CE", "CrossEntropy", 0.5, SEEDS, pictures=False)
    study.finish()
    report = write(uri, tmp_path / "out")
    assert report.content.missing == []
    assert rows_of(report)["BCE as published (= tuned)"].baseline and rows_of(report)["CE"].outcome == "above"


def test_rows_that_predict_one_class_are_not_compared(uri: str, tmp_path: Path) -> None:
    study = Study(uri, tmp_path)
    study.one_class |= {("BCE tuned", seed): "sky" for seed in SEEDS} | {("RMI tuned", seed): "sky" for seed in SEEDS}
    study.one_class |= {("affinity", 2): "road"}
    for family, row, level in (("bce", "BCE tuned", 0.3), ("rmi", "RMI tuned", 0.5), ("affinity", "affinity", 0.6)):
        method = {"bce": "BinaryCrossEntropy", "rmi": "RegionMutualInformation", "affinity": "AffinityField"}[family]
        cell = study.cell(family, method, [row], f"camvid-{family}", 3)
        study.row(cell, row, method, level, SEEDS, pictures=False)
    study.finish()
    report = write(uri, tmp_path / "out")
    rows = rows_of(report)
    assert rows["RMI tuned"].outcome == "not comparable" and rows["RMI tuned"].difference is None
    assert rows["RMI tuned"].verdict.startswith(
        "RMI tuned predicts one class (sky) everywhere on CamVid, and BCE tuned"
    )
    # What differs from a baseline that predicts one class is above it, and both sentences say how.
    assert rows["affinity"].outcome == "above" and rows["affinity"].comparisons == 1
    assert "predicts one class (road) everywhere on 1 of 3 seeds (over" in rows["affinity"].verdict
    assert rows["affinity"].verdict.endswith(" BCE tuned predicts one class (sky) everywhere.")
    answer = report.content.answer
    assert (
        answer.startswith("Of 1 comparison with") and "RMI tuned and BCE tuned predict one class everywhere" in answer
    )
    assert "For the RMI loss" not in answer
    for text in (report.markdown, Page.of(report.page).text):
        assert "RMI tuned predicts one class (sky) everywhere on CamVid" in text
    said = {record["row"]: record["one_class"] for record in report.table(report_page.RESULTS)}
    assert said == {
        "BCE tuned": "predicts one class (sky) everywhere",
        "RMI tuned": "predicts one class (sky) everywhere",
        "affinity": "predicts one class (road) everywhere on 1 of 3 seeds",
    }


def test_a_study_whose_rows_all_predict_one_class_says_so_first(uri: str, tmp_path: Path) -> None:
    study = Study(uri, tmp_path)
    study.one_class |= {(row, seed): "sky" for row in ("BCE tuned", "CE") for seed in SEEDS}
    for family, row in (("bce", "BCE tuned"), ("ce", "CE")):
        cell = study.cell(family, "CrossEntropy", [row], f"camvid-{family}", 3)
        study.row(cell, row, "CrossEntropy", 0.3, SEEDS, test=False)
    study.finish()
    answer = write(uri, tmp_path / "out").content.answer
    assert "On CamVid every row predicts one class everywhere, so nothing is compared there" in answer
    assert "has the highest" not in answer and "No row can be compared" in answer


# Beside the papers


def test_clusters_show_the_score_by_the_match_of_training_images_too(report: Written) -> None:
    for record in report.table(report_page.RESULTS):
        if record["supervision"] == "none":
            assert float(record["mean_iou_train_match"]) == pytest.approx(0.8 * float(record["mean_iou"]), abs=1e-3)
        else:
            assert record["mean_iou_train_match"] == ""
    assert report.page.count("Matched<br>on train") == 1
    assert "by the match that training images give, the score is beside it" in report.page


def test_ours_stand_beside_the_papers_on_the_same_data_alone(report: Written) -> None:
    beside = [record for record in report.table(report_page.PAPERS) if record["our_row"]]
    assert {(record["row"], record["our_row"]) for record in beside} == {
        ("CE + affinity field", "affinity"),
        ("BCE + RMI", "RMI tuned"),
        ("BCE + RMI", STRANGE),
    }
    assert {record["data"] for record in beside} == {"camvid"}
    own = rows_of(report)["RMI tuned"]
    found = next(record for record in beside if record["our_row"] == "RMI tuned")
    assert float(found["ours"]) == pytest.approx(own.scores["mean_iou"], abs=1e-4)
    assert float(found["our_difference"]) == pytest.approx(own.points, abs=1e-4)
    assert (found["published"], found["published_gain"]) == ("63.78", "+2.8") and "eleven classes" in found["system"]
    assert found["published_classes"].startswith("sky 89.29; building 79.89; ")
    printed = [r for r in report.table(report_page.PAPERS) if r["data"] == "camvid" and "twelfth" in r["system"]]
    assert len(printed) == 8 and not any(record["our_row"] for record in printed), "ours is over eleven classes"
    # InfoSeg's paper is there too, with its own figures and none of ours.
    stuff = [r for r in report.table(report_page.PAPERS) if r["data"] == "coco-stuff-15"]
    accuracy = {r["row"]: r["published"] for r in stuff if r["metric"] == "pixel_accuracy"}
    assert (accuracy["InfoSeg"], accuracy["IIC"], accuracy["K-means of colours"]) == ("36.4", "27.7", "14.1")


def test_the_porto_studys_figures_stand_beside_mean_iou_and_ade20k_has_none(report: Written) -> None:
    rows = [r for r in report.table(report_page.PAPERS) if r["recipe"].startswith("porto-")]
    gains = {(r["data"], r["row"]): r["published_gain"] for r in rows if r["metric"] == "mean_iou"}
    assert gains[("cityscapes", "mutual learning")] == "−3.1" and gains[("voc", "mutual learning")] == "+2.4"
    assert gains[("cityscapes", "RMI")] == "−6.9" and gains[("voc", "RMI")] == "−13.6"
    assert {r["published"] for r in rows if r["data"] == "ade20k"} == {""}
    assert not any(r["metric"] == "micro_iou" for r in rows)


def test_differences_of_the_papers_are_those_of_the_studys_recipes(report: Written) -> None:
    assert any("1e-6 to the diagonal of M" in one.what for one in report.content.changed)
    assert any("averages the mutual information over displacements" in one.what for one in report.content.changed)
    assert not any("CamVid's unlabelled pixels" in one.what for one in report.content.changed)
    for one in (*report.content.changed, *report.content.others):
        assert one.what in Page.of(report.page).text


# The page


class Page(HTMLParser):
    """What a page holds: its text, its tags, what it refers to, and the cells of its tables."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags, self.open = "", [], []
        self.references: list[tuple[str, str, str]] = []
        self.ids: set[str] = set()
        self.rows: list[dict[str, str]] = []
        self._cell: str | None = None

    @classmethod
    def of(cls, text: str) -> Page:
        page = cls()
        page.feed(text)
        page.close()
        page.text = " ".join(page.text.split())
        return page

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            assert not name.startswith("on"), f"{tag} {name}"
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                self.references.append((tag, name, value or ""))
            if name == "id":
                assert value not in self.ids, value
                self.ids.add(value or "")
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append({})
        if tag in ("td", "th") and self.rows:
            self._cell = dict(attributes).get("data-key") or f"cell {len(self.rows[-1])}"
            self.rows[-1][self._cell] = ""

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if self._cell is not None:
            self.rows[-1][self._cell] += data


def test_the_page_is_well_formed_and_refers_to_nothing_outside(report: Written) -> None:
    page = Page.of(report.page)
    assert page.open == []
    assert "script" not in page.tags and "iframe" not in page.tags
    for tag, name, value in page.references:
        assert value.startswith("data:") or (tag == "a" and value.startswith("#")), (tag, name, value[:80])
        if value.startswith("#"):
            assert value[1:] in page.ids, value
    style = report.page.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style
    assert page.tags.count("img") >= 8


def test_a_name_is_text_and_never_markup(report: Written) -> None:
    assert STRANGE in Page.of(report.page).text
    assert "<script" not in report.page
    assert "<script" not in report.markdown.replace("\\<script", "")
    assert STRANGE in {record["row"] for record in report.table(report_page.RESULTS)}


def rounded(value: str, form: str = "{:.1f}") -> str:
    return "–" if value == "" else form.format(float(value)).replace("-", "−")


def with_half(difference: str, half: str) -> str:
    text = rounded(difference, "{:+.1f}")
    return text if half == "" else f"{text} ± {float(half):.1f}"


def test_every_number_of_the_pages_tables_is_that_of_the_csv(report: Written) -> None:
    found = [row for row in Page.of(report.page).rows if "mean_iou" in row]
    records = report.table(report_page.RESULTS)
    assert len(found) == len(records) == 7
    for row, record in zip(found, records, strict=True):
        assert row["cell 0"].startswith(record["row"])
        span = f"{rounded(record['mean_iou_lowest'])} to {rounded(record['mean_iou_highest'])}"
        assert row["mean_iou"] == rounded(record["mean_iou"]) + (span if record["seeds"] != "1" else "")
        for name in ("micro_iou", "pixel_accuracy"):
            assert row[name] == rounded(record[name])
        assert row.get("mean_iou_train_match", "–") == rounded(record["mean_iou_train_match"])
        assert row["seeds"] == record["seeds"]
        told = f"{report_page.GLYPHS[record['outcome']]} {record['outcome']}"
        told = (
            "baseline"
            if record["outcome"] == "baseline"
            else with_half(record["difference"], record["half_width"]) + told
        )
        assert row["difference"] == told
    found = [row for row in Page.of(report.page).rows if "published" in row]
    papers = report.table(report_page.PAPERS)
    assert len(found) == len(papers)
    for row, record in zip(found, papers, strict=True):
        # Columns without any value are left out.
        assert (row["published"], row.get("ours", "–")) == (rounded(record["published"]), rounded(record["ours"]))
        told = with_half(record["our_difference"], record["our_half_width"])
        assert row.get("our_difference", "–") == told
    verdicts = " ".join(record["verdict"] for record in records)
    for record in records:
        assert record["verdict"] in Page.of(report.page).text
        if record["half_width"]:
            assert with_half(record["difference"], record["half_width"]) in verdicts


def test_markdown_says_what_the_csv_says(report: Written) -> None:
    lines = [line for line in report.markdown.splitlines() if line.startswith("| ")]
    tables = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    found = [[cell.strip() for cell in cells] for cells in tables if len(cells) in (10, 11)]
    unescaped = [[re.sub(r"\\(.)", r"\1", cell) for cell in cells] for cells in found]
    for record in report.table(report_page.RESULTS):
        own = next(cells for cells in unescaped if cells[0] == record["row"] and cells[-1] == record["runs"])
        if record["supervision"] == "none":
            assert own.pop(3) == rounded(record["mean_iou_train_match"])
        assert own[1] == rounded(record["mean_iou"]) and own[3] == rounded(record["micro_iou"])
        assert own[4] == rounded(record["pixel_accuracy"]) and own[5] == record["seeds"]
        assert own[6] == with_half(record["difference"], record["half_width"]) and own[7] == record["outcome"]
    plain = re.sub(r"\\(.)", r"\1", report.markdown)
    for record in report.table(report_page.RESULTS):
        assert record["verdict"] in plain


def test_markdown_shows_the_figures_of_the_page(report: Written) -> None:
    folder = report.folder / report_page.FIGURES
    shown = re.findall(r"^!\[.+\]\((.+)\)$", report.markdown, re.MULTILINE)
    assert {report.folder / name for name in shown} == set(folder.iterdir())
    assert [Path(name).name for name in shown[:4]] == [
        "1-differences.svg",
        "1-curves.svg",
        "1-classes.svg",
        "1-knobs-1.svg",
    ]
    for name in shown:
        assert data_uri("image/svg+xml", (report.folder / name).read_bytes()) in report.page, name


def test_figures_of_an_earlier_report_go(report: Written, tmp_path: Path) -> None:
    (tmp_path / report_page.FIGURES).mkdir()
    (tmp_path / report_page.FIGURES / "9-curves.svg").write_text("of before")
    report_page.write(report.content, tmp_path)
    assert {path.name for path in (tmp_path / report_page.FIGURES).iterdir()} == {
        path.name for path in (report.folder / report_page.FIGURES).iterdir()
    }


def test_every_run_is_named_with_the_command_that_repeats_it(report: Written) -> None:
    text = Page.of(report.page).text
    for row in report.content.rows:
        for seed, seeded in row.line.seeds.items():
            training = seeded.run.info.run_id
            assert f"miseg train --from-run {training} --name again-{training[:8]} # seed {seed}" in text
            assert f"miseg evaluate --run {training} --role last --split test" in text
    assert "Recipe camvid-rmi, with the settings that the search found." in text
    assert "Commit abcdef123456." in text


def test_runs_on_a_server_are_linked_by_their_address(report: Written) -> None:
    found = report.content.study
    run = report.content.rows[0].runs[0]
    at = report_content.address("http://mlflow:5000/", run)
    assert at == f"http://mlflow:5000/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    before, found.uri = found.uri, "http://mlflow:5000"
    try:
        page = Page.of(report_page.html(report.content, "now"))
    finally:
        found.uri = before
    outside = [reference for reference in page.references if reference[2].startswith("http")]
    assert ("a", "href", at) in outside and {tag for tag, _, _ in outside} == {"a"}


# Figures and pictures


def test_curves_knobs_classes_and_pictures_are_there(report: Written) -> None:
    section = report.content.sections[0]
    assert section.curves.startswith("<svg") and section.classes.startswith("<svg")
    (search,) = section.searches
    assert search.cell.id == "camvid/all/rmi" and "PED-ANOVA" in search.note
    assert "8 trials, 6 of them trained to the last step" in search.note
    pictures = section.pictures
    assert pictures is not None and pictures.picture.startswith("data:image/png;base64,")
    assert (pictures.row, pictures.baseline, pictures.seed) == ("RMI tuned", "BCE tuned", 1)
    assert pictures.apart is not None and 0 < pictures.apart < 1
    images = report.table(report_page.IMAGES)
    gains = [float(record["difference"]) for record in images if record["data"] == "camvid"]
    assert len(gains) == 30 and gains == sorted(gains, reverse=True)
    for record in images:
        expected = float(record["iou"]) - float(record["baseline_iou"])
        assert float(record["difference"]) == pytest.approx(expected, abs=2e-4)


def test_classes_are_those_of_the_runs(report: Written, store: str) -> None:
    records = report.table(report_page.CLASSES)
    assert {record["class"] for record in records} == {"sky", "road", "pole"}
    runs = rows_of(report)["RMI tuned"].runs
    values = [100 * MlflowClient(store).get_run(run.info.run_id).data.metrics["test/iou/road"] for run in runs]
    found = next(r for r in records if (r["data"], r["row"], r["class"]) == ("camvid", "RMI tuned", "road"))
    assert float(found["iou"]) == pytest.approx(sum(values) / 3, abs=1e-4)


def test_importance_finds_the_knob_that_mattered() -> None:
    figures = report_search.figures
    trials = [figures.Tried({"a": a / 7, "b": b}, a, True, False) for a in range(8) for b in ("x", "y")]
    found = report_search.importances(["a", "b"], trials)
    assert found["a"] > 5 * found["b"] and sum(found.values()) == pytest.approx(1)
    assert report_search.importances(["a", "b"], [t._replace(score=1.0) for t in trials]) == {}


# Tunings, and which is reported


def tuning(uri: str, root: Path, untuned: str = "RMI as published", *, overtaken: bool = False) -> Study:
    """As `miseg tune-rmi` leaves it, without a study; `overtaken`: by more trials, after another winner."""
    study = Study(uri, root)
    client = study.client
    client.delete_run(study.parent)
    tags = {"miseg.kind": "tuning", "miseg.run": "tune-rmi", "miseg.data": "camvid", "miseg.experiment_id": "e0"}
    parent = study.run("tune-rmi", tags, {"seed": 0, "trials": 4, "confirm_seeds": 2, "selection": "labels"})

    def run(name: str, method: str, seed: int, score: float, confirmed: str = "", **params: object) -> None:
        curve = [Metric("val/mean_iou", score * step / STEPS[-1], step, step) for step in STEPS]
        own = {"seed": seed, "steps": STEPS[-1], "method.network": "UNet", **params}
        tags = {"miseg.confirmed": confirmed, "miseg.row": "RMI tuned"} if confirmed else {}
        study.run(name, {"miseg.kind": "trial", "miseg.method": method} | tags, own, curve, parent)

    for number in range(4):
        run(f"trial {number}", "RegionMutualInformation", 0, 0.2 + number / 50, **{"lambda": number / 4})
    for seed in (1, 2) if overtaken else ():
        run(f"seed {seed} RMI tuned", "RegionMutualInformation", seed, 0.9, confirmed="no")
    for seed in (1, 2):
        run(f"{untuned} (= tuned) seed {seed}", "RegionMutualInformation", seed, 0.3 + seed / 90)
        run(f"BCE seed {seed}", "BinaryCrossEntropy", seed, 0.2 + seed / 100)
    return study


@pytest.mark.slow
@pytest.mark.parametrize("untuned", ["RMI as published", "RMI as planned"])
def test_a_tuning_without_a_study_has_a_report_of_its_own(uri: str, tmp_path: Path, untuned: str) -> None:
    tuning(uri, tmp_path, untuned)
    report = write(uri, tmp_path / "out")
    found = rows_of(report)
    assert set(found) == {"BCE", f"{untuned} (= tuned)"} and found["BCE"].baseline
    assert found[f"{untuned} (= tuned)"].points == pytest.approx(10 + 1.5 / 9, abs=0.01)
    assert "over 2 seeds alone" in found[f"{untuned} (= tuned)"].verdict
    assert report.content.missing == [] and len(report.content.sections[0].searches) == 1
    assert "Tuning tune-rmi" in report.page and "the test split has not been read" in report.page
    for baseline in (f"{untuned} (= tuned)", untuned):
        other = write(uri, tmp_path / "other", tuning="tune-rmi", baseline=baseline)
        assert rows_of(other)["BCE"].points == pytest.approx(-10 - 1.5 / 9, abs=0.01)


def test_a_winner_that_more_trials_overtook_is_in_no_row(uri: str, tmp_path: Path) -> None:
    """Its confirmations stay in MLflow, where they are tagged so."""
    tuning(uri, tmp_path, overtaken=True)
    assert set(rows_of(write(uri, tmp_path / "out"))) == {"BCE", "RMI as published (= tuned)"}


def test_a_winner_that_was_overtaken_is_no_trial_of_a_studys_search(uri: str, tmp_path: Path) -> None:
    """Its confirmations are on other seeds than the search."""
    study = Study(uri, tmp_path)
    cell = study.cell("rmi", "RegionMutualInformation", ["RMI tuned"], "camvid-rmi", 3, trials=2)
    study.row(cell, "RMI tuned", "RegionMutualInformation", 0.4, SEEDS, counts=False, pictures=False)
    study.finish()
    client = MlflowClient(uri)
    runs = client.search_runs([study.experiment], "tags.`miseg.confirmed` = 'yes' and params.seed = '3'")
    assert runs
    client.set_tag(runs[0].info.run_id, "miseg.confirmed", "no")
    (table,) = report_runs.read(uri).tables
    assert len(table.cells[0].tried) == 2 and set(table.lines[0].seeds) == {1, 2}


def test_one_image_is_told_from_images_that_were_not_counted() -> None:
    counts = {seed: ImageCounts(("a",), np.array([[4 + seed, 2]]), np.array([[9, 9]])) for seed in SEEDS}
    base = {seed: ImageCounts(("a",), np.array([[1, 2]]), np.array([[9, 9]])) for seed in SEEDS}
    run = SimpleNamespace(data=SimpleNamespace(params={}, tags={}, metrics={"val/mean_iou": 0.1}))
    lines = [
        ReportedRow(name, "cell", "", "", {seed: TrainedSeed(run, images=images) for seed, images in of.items()})
        for name, of in (("ours", counts), ("CE", base))
    ]
    table = ReportedTable("camvid", "all", "dense", "CE", lines=lines)
    (found,) = (row for row in report_tables.results(table) if not row.baseline)
    assert found.difference is not None and found.difference.images == 1
    assert "(over 3 seeds alone, because there is one image)" in found.verdict


def test_what_is_not_there_is_told(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no study or tuning at sqlite"):
        report_runs.read(uri)
    tuning(uri, tmp_path)
    with pytest.raises(ValueError, match=r"no study 'night' at sqlite.*there are: none"):
        report_runs.read(uri, study="night")
    with pytest.raises(ValueError, match="no tuning 'x' at sqlite"):
        report_runs.read(uri, tuning="x")
    with pytest.raises(ValueError, match=r"no row of tune-rmi is called so; RMI as published .*, BCE"):
        report_runs.read(uri, tuning="tune-rmi", baseline="CE")
    study = Study(uri, tmp_path / "second", name="without a plan")
    with pytest.raises(ValueError, match=f"study 'without a plan', run {study.parent}, holds no plan.json"):
        report_runs.read(uri)


def test_the_last_study_is_reported_unless_one_is_named(uri: str, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        study = Study(uri, tmp_path / name, name=name)
        cell = study.cell("bce", "BinaryCrossEntropy", ["BCE tuned"], "camvid-bce", 1)
        study.row(cell, "BCE tuned", "BinaryCrossEntropy", 0.3, [1], pictures=False)
        study.finish()
    assert report_runs.read(uri).name == "second"
    found = report_runs.read(uri, study="first")
    assert found.name == "first" and len(found.tables[0].lines) == 1


# The job


def test_the_job_writes_where_it_is_told_and_says_what_is_missing(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(Path(store.removeprefix("sqlite:///")).parent)
    assert report_command.run(report_command.Report(storage=root, out=str(tmp_path / "here"))) == 1
    said = capsys.readouterr().out
    assert said.startswith("Of 3 comparisons with a baseline") and "missing, not begun: camvid/all/mutual" in said
    for name in (report_page.PAGE, report_page.MARKDOWN, report_page.RESULTS, report_page.PAPERS):
        assert str(tmp_path / "here" / name) in said and (tmp_path / "here" / name).stat().st_size > 0


# In a browser


@pytest.mark.browser
@pytest.mark.slow
def test_a_browser_shows_the_page_and_fetches_nothing(report: Written, tmp_path: Path) -> None:
    """Real Chromium: no error on its console, no request but for the file itself, and a picture that is no blank."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    # Else a log that holds nothing would pass.
    control = tmp_path / "control.html"
    control.write_text("<!doctype html><img src='http://127.0.0.1:9/x.png'><script>console.error('said')</script>")
    asked, said, _ = shown(browser, control, tmp_path / "control")
    assert "http://127.0.0.1:9/x.png" in asked and any("said" in line for line in said)

    asked, said, picture = shown(browser, report.folder / report_page.PAGE, tmp_path / "report")
    assert said == []
    assert {url for url in asked if not url.startswith(("file:", "data:"))} == set()
    assert picture.size == (1000, 6000)
    colours = {colour for _, colour in picture.getcolors(2**24) or []}
    # Okabe and Ito's blue and vermillion, of figures that were really drawn.
    assert {(0, 114, 178), (213, 94, 0)} <= colours


def shown(browser: str, page: Path, folder: Path) -> tuple[set[str], list[str], Image.Image]:
    """What a page asked for, what its console said, and its picture, 1000 x 6000."""
    log, shot = folder / "net.json", folder / "page.png"
    folder.mkdir()
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"]
    command += [f"--user-data-dir={folder}/profile", f"--log-net-log={log}", "--enable-logging=stderr"]
    command += ["--window-size=1000,6000", f"--screenshot={shot}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and shot.exists(), done.stderr[-2000:]
    requests = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # What Chromium asks for itself (updates, the time) has no page as its origin.
    asked = {
        one["url"] for one in requests if "url" in one and one.get("initiator", "not an origin") != "not an origin"
    }
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return asked, said, Image.open(shot).convert("RGB")


def test_rows_of_other_conditions_are_left_out_by_name_and_the_others_say_what_they_share(
    uri: str, tmp_path: Path
) -> None:
    study = Study(uri, tmp_path)
    alike = {"augmentation.resize": "[48, 64]", "label_budget": "None", "steps": "200"}
    for family, method, row in (("bce", "BinaryCrossEntropy", "BCE tuned"), ("ce", "CrossEntropy", "CE tuned")):
        cell = study.cell(family, method, [row], f"camvid-{family}", 3, trials=2)
        study.row(cell, row, method, 0.3, SEEDS)
    study.finish()
    client = MlflowClient(uri)
    trained = {}
    for run in client.search_runs([study.experiment], "tags.`miseg.kind` = 'trial'"):
        if run.data.tags.get("miseg.confirmed") == "yes":
            trained[run.data.tags["miseg.row"], run.data.params["seed"]] = run.info.run_id
    for (row, seed), run_id in trained.items():
        other = {"augmentation.resize": "[32, 48]"} if (row, seed) == ("CE tuned", "2") else {}
        for name, value in (alike | other).items():
            if name != "steps":
                client.log_param(run_id, name, value)
    report = write(uri, tmp_path / "report")
    rows = rows_of(report)
    assert set(rows["CE tuned"].line.seeds) == {1, 3} and set(rows["BCE tuned"].line.seeds) == {1, 2, 3}
    said = "CE tuned, seed 2: size [32, 48] where the others have [48, 64], so it compares with none of them"
    assert any(said in part for part in report.content.missing)
    for text in (report.page, report.markdown):
        assert "All rows have in common: images at 48x64, all labels, or the method's number, 200 steps." in (
            text.replace("&#39;", "'")
        )
        assert "How many trials ran at a time is not known" in text
