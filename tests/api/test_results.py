"""Results are what MLflow holds: frames with its values, figures with the frames', and models of its runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

import miseg
from miseg.api import figures
from miseg.api.results import TrainingResult, TuningResult, recorded_tables
from miseg.data.packed.dataset import PackedDataset
from miseg.recipes.experiment import Experiment
from miseg.service.tuning.tables import summary
from tests.support.tuning_store import STEPS, Written, write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(template: Path, small: PackedDataset, tiny: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("results")
    (folder / "mlflow.db").write_bytes(template.read_bytes())
    return write(f"sqlite:///{folder}/mlflow.db", small, tiny, folder)


@pytest.fixture(scope="module")
def training(store: Written) -> TrainingResult:
    run_id = store.confirmation["run_id"].iloc[0]
    return TrainingResult(store.tuning.tracking_uri, store.tuning.storage, run_id, store.tuning.base)


@pytest.fixture(scope="module")
def tuning(store: Written) -> TuningResult:
    uri = store.tuning.tracking_uri
    tables = recorded_tables(uri, store.parent)
    return TuningResult(uri, store.tuning.storage, store.parent, store.tuning.name, *tables, reused=True)


def test_a_history_has_the_values_of_mlflow(training: TrainingResult) -> None:
    client = MlflowClient(training.tracking_uri)
    metrics = client.get_run(training.run_id).data.metrics
    assert set(training.history) == {name for name in metrics if name.startswith(("train/", "val/"))}
    for name in training.history:
        points = {point.step: point.value for point in client.get_metric_history(training.run_id, name)}
        assert training.history[name].dropna().to_dict() == points
    assert training.scores == {name: value for name, value in metrics.items() if name.startswith("val/")}
    assert training.history.index.name == "step" and training.history.index.max() == training.step == STEPS
    assert training.ended == "finished" and training.name.startswith("tune-rmi-small-")


def test_of_a_step_that_was_logged_twice_the_last_counts(training: TrainingResult) -> None:
    client = MlflowClient(training.tracking_uri)
    run = client.create_run(client.get_run(training.run_id).info.experiment_id)
    for value, time in ((3.0, 2000), (2.0, 3000), (1.0, 1000)):
        client.log_metric(run.info.run_id, "train/loss", value, timestamp=time, step=4)
    result = TrainingResult(training.tracking_uri, training.storage, run.info.run_id, training.experiment)
    assert result.history["train/loss"].to_dict() == {4: 2.0}


def test_what_went_wrong_is_told(training: TrainingResult) -> None:
    client = MlflowClient(training.tracking_uri)
    run = client.create_run(client.get_run(training.run_id).info.experiment_id)
    tags = {"miseg.ended": "the loss is nan at step 3", "miseg.skipped": "the last of them: the loss is nan"}
    for name, value in tags.items():
        client.set_tag(run.info.run_id, name, value)
    result = TrainingResult(training.tracking_uri, training.storage, run.info.run_id, training.experiment)
    assert result.remarks == [
        "ended at step 0 of 16: the loss is nan at step 3",
        "steps were left out, the last of them: the loss is nan",
    ]


def test_a_training_is_drawn(training: TrainingResult) -> None:
    loss, score = training.plot().axes
    assert (loss.lines[0].get_ydata() == training.history["train/loss"].dropna()).all()
    scores = training.history["val/mean_iou"].dropna()
    assert (score.lines[0].get_xdata() == scores.index).all() and (score.lines[0].get_ydata() == scores).all()


def test_a_tuning_has_the_tables_that_are_printed(tuning: TuningResult, store: Written) -> None:
    pd.testing.assert_frame_equal(tuning.table, summary(store.confirmation))
    assert list(tuning.table) == ["row", "mean", "min", "max", "seeds"] and tuning.failures == []
    assert len(tuning.trials) == len(store.trials) and len(tuning.confirmation) == len(store.confirmation)


def test_a_tuning_is_drawn(tuning: TuningResult) -> None:
    trials, rows = tuning.plot().axes
    assert (trials.lines[0].get_ydata() == tuning.trials["mean_iou"]).all()
    assert [text.get_text() for text in rows.get_yticklabels()] == list(tuning.table["row"])[::-1]


def test_the_models_of_a_row_and_of_all(
    tuning: TuningResult, training: TrainingResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    best = tuning.confirmation.loc[tuning.confirmation["mean_iou"].idxmax()]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tuning.tracking_uri)
    for model, run_id in (
        (tuning.model(), best["run_id"]),
        (tuning.model("BCE"), tuning.confirmation.set_index("row").loc["BCE", "run_id"]),
        (training.model("last"), training.run_id),
    ):
        loaded = miseg.load(f"runs:/{run_id}/last", device="cpu")
        assert (model.predict(image).probabilities == loaded.predict(image).probabilities).all()
    with pytest.raises(ValueError, match="row = 'CE': no finished run of it; there are BCE"):
        tuning.model("CE")


def test_differences_are_drawn_with_their_intervals() -> None:
    table = pd.DataFrame(
        {
            "row": ["RMI $tuned$", "CE tuned", "BCE"],
            "data": ["camvid"] * 3,
            "difference": [1.5, "", -2.0],
            "half_width": [0.5, "", ""],
            "baseline": ["CE tuned"] * 3,
        }
    )
    figure = figures.differences(table)
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["BCE, camvid", "RMI $tuned$, camvid"]
    assert axis.lines[0].get_xdata().tolist() == [-2.0, 1.5] and axis.get_xlabel() == "points of mean IoU over CE tuned"
    assert figure._repr_png_().startswith(b"\x89PNG")
