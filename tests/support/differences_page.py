"""The tables of docs/fidelity.md that `miseg.recipes.differences` makes.

python -m tests.support.differences_page     # writes them anew
"""

from __future__ import annotations

import re

from miseg.recipes.differences import DIFFERENCES
from tests.support import ROOT

PAGE = ROOT / "docs/fidelity.md"
NOT_MEASURED = "not measured"

_TABLE = re.compile(r"(<!-- differences: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(study: str) -> str:
    """The differences of a study as a Markdown table."""
    rows = [
        f"| {_cell(difference.what)} | {_cell(difference.effect) or NOT_MEASURED} |"
        for difference in DIFFERENCES
        if difference.study == study
    ]
    return "\n".join(["| what differs | what it changes |", "|---|---|", *rows, ""])


def studies(text: str) -> list[str]:
    """The studies whose tables a page has, in its order."""
    return [study for _, study, _ in _TABLE.findall(text)]


def with_tables(text: str) -> str:
    """A page with the tables as they are now."""
    return _TABLE.sub(lambda match: f"{match[1]}\n{table(match[2])}\n{match[3]}", text)


def _cell(text: str) -> str:
    """Settings such as optimiser.decayed=weights as code, and no bar that would end the cell."""
    return re.sub(r"\b([a-z_]+(?:\.[a-z_]+)+=\w+)", r"`\1`", text).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
