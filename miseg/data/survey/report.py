"""The report on a packed data set: lines for a terminal, JSON and a picture beside the sidecar."""

from __future__ import annotations

import json
from pathlib import Path

from miseg.data.packed.dataset import PackedDataset
from miseg.data.survey.picture import draw
from miseg.data.survey.survey import survey
from miseg.files import replacing

SURVEY, PICTURE = "survey.json", "survey.png"
"""Files of the report in the packed folder."""


def report_on(folder: Path) -> list[str]:
    """Surveys the packed data set in a local folder, writes survey.json and survey.png there, and gives the lines.

    Raises:
        ValueError: no packed data set, or a damaged one.
        OSError: the folder cannot be written to.
    """
    packed = PackedDataset.open(folder)
    result = survey(packed)
    with replacing(folder / SURVEY) as unfinished:
        text = json.dumps({"of": packed.fingerprint, **result.to_dict()}, indent=1, ensure_ascii=False)
        # Ids are file names, and may hold what is not UTF-8.
        unfinished.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")
    draw(result, packed, folder / PICTURE)
    return ["", *result.lines(), f"picture of the data: {folder / PICTURE}"]
