"""Tables of the terminal are no wider than it."""

from __future__ import annotations

import pandas as pd
import pytest

from miseg.service.terminal.fitted_tables import fitted

TABLE = pd.DataFrame(
    {
        "trial": [1, 2],
        "mean_iou": [0.25, 0.5],
        "ended": ["finished", "stopped early by ASHA at step 6"],
        "lambda": [1.0, 0.5],
    }
)


def test_a_wide_table_goes_on_below_with_its_first_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "45")
    text = fitted(TABLE, "{:.2f}")
    assert max(map(len, text.splitlines())) <= 45
    blocks = [[line.split() for line in block.splitlines()] for block in text.split("\n\n")]
    assert len(blocks) > 1 and all([row[0] for row in block] == ["trial", "1", "2"] for block in blocks)
    header = [word for block in blocks for word in block[0][1:]]
    assert header == ["mean_iou", "ended", "lambda"]


def test_a_name_behind_the_scores_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "45")
    first, *others = fitted(TABLE[["mean_iou", "trial", "ended", "lambda"]], "{:.2f}", "trial").split("\n\n")
    assert first.split()[:2] == ["mean_iou", "trial"] and {block.split()[0] for block in others} == {"trial"}


def test_what_fits_or_has_no_terminal_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TABLE.to_string(index=False, float_format="{:.2f}".format)
    monkeypatch.setenv("COLUMNS", "200")
    assert fitted(TABLE, "{:.2f}") == whole
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setattr("os.get_terminal_size", lambda *of: (_ for _ in ()).throw(OSError()))
    assert fitted(TABLE, "{:.2f}") == whole


def test_a_column_that_is_wider_than_all_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    assert len(fitted(TABLE, "{:.2f}").split("\n\n")) == 3
