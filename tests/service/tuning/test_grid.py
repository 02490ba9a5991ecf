"""A grid's bookkeeping; a whole grid differs from a tuning, which test_tune.py runs, in its points alone."""

import pandas as pd
import pytest

from miseg.methods.configs import RegionMutualInformation
from miseg.recipes import spaces, streets
from miseg.recipes.catalog import RECIPES
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.training.run import FINISHED
from miseg.service.tuning import tables
from miseg.service.tuning.tuning import Tuning


def tuning(grid) -> Tuning:
    base = streets.embedded_rmi()
    return Tuning(
        name="grid",
        base=base,
        space=spaces.region_mutual_information,
        default_point=spaces.region_mutual_information.point(base),
        rivals={},
        tuned="RMI tuned",
        data="",
        storage="",
        tracking_uri="",
        resources=Resources(2, 0, 1, 2),
        trials=8,
        confirm_seeds=1,
        grid=grid,
    )


def test_a_grid_counts_its_points_and_a_search_its_trials() -> None:
    base = streets.embedded_rmi()
    grid = spaces.RegionMutualInformationGrid(region_size=(1, 2, 3), downsampling=("max", "average"))
    assert tuning(grid.values(base)).points == 6
    assert tuning(None).points == 8


def test_a_grids_scores_stand_at_their_factor_and_region_size() -> None:
    points = [(factor, size) for factor in (1, 4) for size in (2, 3)]
    trials = pd.DataFrame(
        {
            "run_id": [f"{number}" for number in range(4)],
            "mean_iou": [0.12, 0.13, 0.42, float("nan")],
            "score": [0.12, 0.13, 0.42, float("nan")],
            "step": 100,
            "ended": "finished",
            "params/lambda": 0.5,
            "params/downsampling_factor": [factor for factor, _ in points],
            "params/region_size": [size for _, size in points],
            "params/downsampling": "average",
            "params/learning_rate": 1e-3,
        }
    )
    first, second = tables.grid_text(trials).splitlines()[-2:]
    assert first.split()[-3:] == ["1", "0.1200", "0.1300"]
    assert second.split()[-3:] == ["4", "0.4200", "NaN"], "a trial that failed leaves a gap"


def test_the_winner_of_a_grid_is_an_experiment_again() -> None:
    base = streets.embedded_rmi()
    point = spaces.region_mutual_information.point(base) | {"region_size": 2}
    found = spaces.region_mutual_information(spaces.FixedTrial(point), base)
    assert isinstance(found.method, RegionMutualInformation) and found.method.region_size == 2
    assert found.optimiser == base.optimiser


def test_the_rank_correlation_is_of_whole_trials_that_labels_did_not_select() -> None:
    trials = pd.DataFrame(
        {
            "mean_iou": [0.1, 0.3, 0.2, 0.9],
            "score": [-1.0, -0.2, -0.1, -0.05],
            "step": [100, 100, 100, 20],
            "ended": [FINISHED] * 3 + ["stopped early by ASHA at step 20"],
        }
    )
    assert tables.agreement(trials, 100) == pytest.approx(0.5)
    assert tables.agreement(trials.drop(columns="score"), 100) is None
    assert tables.agreement(trials.iloc[[0, 3]], 100) is None
    assert tables.agreement(trials.assign(mean_iou=0.1), 100) is None
    assert "objective" in tables.trials_text(trials.assign(run_id=""))


def test_the_winner_s_whole_numbers_describe_an_experiment():
    base = RECIPES["flanders-similarity"]()
    rows = [spaces.similarity.point(base) | {"patch": patch, "z": 16} for patch in (5, 13)]
    trials = pd.DataFrame([{f"params/{name}": value for name, value in row.items()} for row in rows])
    trials = trials.assign(mean_iou=[0.2, 0.1], score=[0.1, 0.2], step=base.steps, ended=FINISHED)
    winner = tables.best_trial(trials, base.steps)
    assert winner is not None
    found = spaces.similarity(spaces.FixedTrial(winner), base)
    assert (found.method.encoder.patch, found.method.encoder.representation) == (13, 16)
    assert found.id == spaces.similarity(spaces.FixedTrial(rows[1]), base).id
