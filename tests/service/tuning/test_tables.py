"""The tables of a tuning, from its rows."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from miseg.service.training.run import FINISHED
from miseg.service.tuning import record, tables


def rows(*scores: dict) -> pd.DataFrame:
    return pd.DataFrame([{"run_id": "r", "step": 10, "ended": FINISHED} | score for score in scores])


def test_a_confirmation_has_a_table_for_each_score_that_it_has() -> None:
    found = tables.summaries(
        rows(
            {"row": "a", "mean_iou": 0.2, "pixel_accuracy": 0.5},
            {"row": "a", "mean_iou": 0.4, "pixel_accuracy": 0.3},
            {"row": "b", "mean_iou": 0.1, "pixel_accuracy": 0.9},
        )
    )
    assert list(found) == ["mean_iou", "pixel_accuracy"]
    assert found["mean_iou"].to_dict("records") == [
        {"row": "a", "mean": pytest.approx(0.3), "min": 0.2, "max": 0.4, "seeds": 2},
        {"row": "b", "mean": 0.1, "min": 0.1, "max": 0.1, "seeds": 1},
    ]
    assert found["pixel_accuracy"]["row"].tolist() == ["b", "a"]
    assert list(tables.summaries(rows({"row": "a", "mean_iou": 0.2}))) == ["mean_iou"]
    assert "0.3000" in tables.summary_text(found["mean_iou"])


def test_a_confirmation_that_failed_on_its_way_is_in_no_mean() -> None:
    """Its last validation is of fewer steps than the others' scores."""
    failed = {"mean_iou": 0.1, "step": 4, "ended": "the loss was nan at step 5"}
    confirmation = rows(
        {"row": "a", "mean_iou": 0.4}, {"row": "a", **failed}, {"row": "b", "mean_iou": 0.3}, {"row": "c", **failed}
    )
    found = tables.summary(confirmation)
    assert found["row"].tolist() == ["a", "b", "c"] and found["seeds"].tolist() == [1, 1, 0]
    assert found["mean"].tolist()[:2] == [0.4, 0.3] and found["min"].tolist()[:2] == [0.4, 0.3]
    assert found.loc[2, ["mean", "min", "max"]].isna().all()
    metrics = record.results(rows({"mean_iou": 0.2}), confirmation, "c")
    assert metrics == {"confirmed/mean_iou/a": 0.4, "confirmed/mean_iou/b": 0.3, "search/mean_iou": 0.2}


def test_a_grid_shows_no_score_of_a_trial_that_failed_on_its_way() -> None:
    point = {"params/downsampling": "average", "params/lambda": 0.5, "params/downsampling_factor": 2}
    whole = point | {"mean_iou": 0.4, "params/region_size": 2}
    failed = point | {"mean_iou": 0.1, "step": 4, "ended": "failed: memory", "params/region_size": 3}
    text = tables.grid_text(rows(whole, failed))
    assert "0.4000" in text and "0.1000" not in text and "NaN" in text


def test_the_trials_show_what_selects_and_not_every_score() -> None:
    trials = rows({"mean_iou": 0.2, "score": -1.5, "pixel_accuracy": 0.5, "train_match/mean_iou": 0.1, "params/tau": 2})
    text = tables.trials_text(trials)
    assert "objective" in text and "-1.5" in text and "tau" in text
    assert "pixel_accuracy" not in text and "train_match" not in text


def test_trials_have_the_numbers_that_progress_gives_them() -> None:
    text = tables.trials_text(rows({"mean_iou": 0.2}, {"mean_iou": 0.4}, {"mean_iou": 0.3}))
    heading, *lines = text.splitlines()
    column = heading.split().index("trial")
    assert column == heading.split().index("step") + 1, "what reads the table has scores and steps in front"
    assert [line.split()[column] for line in lines] == ["2", "3", "1"]


def test_objective_and_score_are_correlated_over_whole_trials() -> None:
    whole = [{"mean_iou": 0.1 * index, "score": -float(index)} for index in range(3)]
    assert tables.agreement(rows(*whole), 10) == pytest.approx(-1)
    cut = {"mean_iou": 0.9, "score": 9.0, "step": 5}
    assert tables.agreement(rows(*whole, cut), 10) == pytest.approx(-1)
    assert tables.agreement(rows(whole[0]), 10) is None
    assert tables.agreement(rows(whole[0], whole[0]), 10) is None
    assert tables.agreement(rows(*({"mean_iou": row["mean_iou"]} for row in whole)), 10) is None


def test_the_best_trial_is_whole() -> None:
    trials = rows(
        {"score": 0.3, "params/tau": 1.0, "params/features": 32},
        {"score": 0.5, "params/tau": 2.0, "params/features": 64, "step": 5},
        {"score": 0.2, "params/tau": 3.0, "params/features": 16},
    )
    best = tables.best_trial(trials, 10)
    assert best == {"tau": 1.0, "features": 32} and type(best["features"]) is int
    assert tables.best_trial(trials.assign(step=5), 10) is None


def test_trials_without_a_score_have_no_best_one() -> None:
    """As where no pixel of the validation images has a class."""
    unscored = {"score": math.nan, "params/tau": 1.0}
    assert tables.best_trial(rows(unscored, unscored), 10) is None
    assert tables.best_trial(rows(unscored, {"score": 0.1, "params/tau": 2.0}), 10) == {"tau": 2.0}


def test_rows_that_predict_one_class_are_said_beside_their_scores() -> None:
    several, sky = {"row": "a", "mean_iou": 0.2}, {"row": "b", "mean_iou": 0.1, "one_class": "sky"}
    assert tables.one_class_text(rows(several)) == ""
    assert tables.one_class_text(rows(several, sky)) == "b predicts one class (sky) everywhere."
    some = tables.one_class_text(rows(sky, several | {"row": "b"}, sky | {"row": "a"}))
    assert some == "a predicts one class (sky) everywhere.\nb predicts one class (sky) everywhere on 1 of 2 seeds."
    assert tables.one_class_text(rows(sky, sky | {"row": "a", "one_class": "road"})).endswith("compares no methods: "
        "train for more steps.")  # fmt: skip
    assert "sky" in tables.trials_text(rows(several, sky)) and "NaN" not in tables.trials_text(rows(several, sky))
