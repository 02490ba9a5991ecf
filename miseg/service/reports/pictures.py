"""Pictures and images where two rows of a table agree and where they do not."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image

from miseg.data.picture_files import OF_DAMAGED, open_header
from miseg.evaluation.disagreement import disagreement
from miseg.evaluation.paired import ImageCounts
from miseg.evaluation.report_figures import short
from miseg.metric_names import PANELS, of_split
from miseg.service.reports.reported_study import ReportedTable, TrainedSeed
from miseg.service.reports.tables import Result, baseline_of
from miseg.service.reports.words import number
from miseg.service.tracking.pages import images as logged_images

EXTREMES = 3
"""Images named on each side where two rows differ most."""


@dataclass
class Pictures:
    """Two rows on the same images."""

    row: str
    baseline: str
    seed: int
    picture: str = ""
    """A data URI."""
    apart: float | None = None
    """Share of counted pixels where one is right and the other is not, 0..1."""
    images: list[dict[str, object]] = field(default_factory=list)
    """Rows of `images.csv`: every image, the largest gain over the baseline first."""


def pictures(client: MlflowClient, table: ReportedTable, rows: Sequence[Result]) -> Pictures | None:
    """The best row beside the baseline (beside the second where it is the baseline itself), on their first seed."""
    base = baseline_of(table)
    best = next((row.line for row in rows if row.line is not base), None)
    if base is None or best is None or not (seeds := sorted(base.seeds.keys() & best.seeds.keys())):
        return None
    seed = seeds[0]
    trained, other = best.seeds[seed], base.seeds[seed]
    shown = Pictures(best.name, base.name, seed)
    if trained.images is not None and other.images is not None:
        shown.images = _image_gains(table, shown, trained.images, other.images)
    sheets = [panels(client, seeded) for seeded in (trained, other)]
    if sheets[0] is not None and sheets[1] is not None:
        names = [short(name, 24) for name in (best.name, base.name)]
        try:
            picture, shown.apart = disagreement(sheets[0], sheets[1], names)
        except ValueError as error:
            print(f"{table.data}: {best.name} and {base.name} are not shown side by side: {error}", flush=True)
        else:
            shown.picture = data_uri("image/png", _png(picture))
    return shown if shown.picture or shown.images else None


def _image_gains(
    table: ReportedTable, shown: Pictures, images: ImageCounts, baseline_images: ImageCounts
) -> list[dict[str, object]]:
    ids = [name for name in images.ids if name in set(baseline_images.ids)]
    if not ids:
        return []
    scores = [100 * counts.of_images(ids).image_iou() for counts in (images, baseline_images)]
    gains = scores[0] - scores[1]
    columns = {"data": table.data, **table.labels, "split": table.split, "row": shown.row}
    columns |= {"baseline": shown.baseline, "seed": str(shown.seed)}
    return [
        columns
        | {"image": ids[i], "iou": number(scores[0][i]), "baseline_iou": number(scores[1][i])}
        | {"difference": number(gains[i])}
        for i in np.argsort(-gains, kind="stable")
        if not np.isnan(gains[i])
    ]


def _png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    # Flat colours and few of them, but for the photographs: a palette makes the page four times smaller.
    picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(data, "png", optimize=True)
    return data.getvalue()


def panels(client: MlflowClient, seeded: TrainedSeed) -> Image.Image | None:
    """The picture of panels of the last evaluation of a row, where one was kept."""
    run = seeded.evaluation or seeded.run
    try:
        paths = _panels(client, run.info.run_id, seeded.split)
        if not paths:
            return None
        with tempfile.TemporaryDirectory() as folder:
            picture = open_header(Path(client.download_artifacts(run.info.run_id, paths[-1], folder)))
            picture.load()
            return picture
    except (MlflowException, *OF_DAMAGED):
        return None


def _panels(client: MlflowClient, run_id: str, split: str) -> list[str]:
    """Paths of a run's pictures of panels of a split, the last step's last."""
    stem = logged_images.stem_of(of_split(split, PANELS))
    paths = [file.path for file in client.list_artifacts(run_id, logged_images.FOLDER)]
    shown = [path for path in paths if Path(path).name.startswith(stem) and path.endswith(".png")]
    if shown:
        return sorted(shown, key=lambda path: logged_images.step_of(Path(path).name))
    # As they were kept before.
    before = sorted(file.path for file in client.list_artifacts(run_id, "panels"))
    return [path for path in before if Path(path).name.startswith(f"panels-{split}-")]


def data_uri(kind: str, data: bytes) -> str:
    """A file as the address of itself."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
