"""Search spaces: what a trial may become, and the way back from its values."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import optuna
import pytest

from miseg.methods.configs import InfoSeg, MutualInformationSimilarity, RegionMutualInformation
from miseg.recipes import spaces, streets
from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment
from miseg.recipes.space_text import parsed
from tests.support import ROOT

BASES = pytest.mark.parametrize("base", [streets.embedded_rmi(seed=4), streets.camvid_rmi()], ids=lambda b: b.data)


@BASES
def test_the_default_point_is_the_base_itself(base: Experiment) -> None:
    found = spaces.region_mutual_information(spaces.FixedTrial(spaces.region_mutual_information.point(base)), base)
    assert found == base and found.id == base.id


@pytest.mark.parametrize("name", ["flanders-similarity", "naip-landcover-similarity"])
def test_the_similarity_s_default_point_is_its_base_and_every_point_builds(name: str) -> None:
    base = RECIPES[name](seed=4)
    assert spaces.similarity(spaces.FixedTrial(spaces.similarity.point(base)), base) == base
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial(spaces.similarity.point(base))
    built = [spaces.similarity(study.ask(), base) for _ in range(20)]
    assert built[0] == base and len({experiment.id for experiment in built}) == 20
    for experiment in built:
        method = experiment.method
        assert isinstance(method, MutualInformationSimilarity)
        assert method.encoder.patch in (5, 7, 9, 13) and method.encoder.representation in (10, 16, 32, 64)
        assert 0 <= method.alpha <= 1 and 0.1 <= method.beta <= 2 and 0 <= method.gamma <= 1
        assert replace(experiment, method=base.method, optimiser=base.optimiser) == base
    with pytest.raises(
        TypeError, match="DeepInfoMax has no such settings to search: give a recipe of MutualInformationSimilarity"
    ):
        spaces.similarity(spaces.FixedTrial({}), RECIPES["flanders-deep-infomax"]())


def test_the_choices_of_the_similarity_are_typed_as_the_docs_say() -> None:
    base = RECIPES["flanders-similarity"]()
    texts = re.search(r"miseg tune flanders-similarity --space ([^\n]*)", (ROOT / "docs/few-labels.md").read_text())
    assert texts is not None
    assert dict(parsed(texts[1].split(), base).ranges) == dict(spaces.similarity_choices.ranges)
    assert spaces.similarity_choices(spaces.FixedTrial(spaces.similarity_choices.point(base)), base) == base
    published = {"negatives": "batch", "reduction": "sum", "terms": "all", "z": 10}
    method = spaces.similarity_choices(spaces.FixedTrial(published), base).method
    own = RECIPES["flanders-similarity-as-published"]().method
    assert replace(own, discriminator="concatenate") == method


def study_of(base: Experiment, trials: int) -> tuple[optuna.Study, list[Experiment]]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial(spaces.region_mutual_information.point(base))
    built = []

    def objective(trial: optuna.Trial) -> float:
        experiment = spaces.region_mutual_information(trial, base)
        built.append(experiment)
        # Something with a preference, so that TPE does not only draw at random.
        return -abs(experiment.method.weight - 0.3) - abs(math.log(experiment.optimiser.learning_rate / 1e-3))

    study.optimize(objective, n_trials=trials)
    return study, built


@BASES
def test_every_point_of_thirty_builds_within_its_ranges_and_changes_nothing_else(base: Experiment) -> None:
    study, built = study_of(base, 30)
    assert built[0] == base, "the published setting comes first"
    for experiment in built:
        method, rate = experiment.method, experiment.optimiser.learning_rate
        assert isinstance(method, RegionMutualInformation)
        assert 0 <= method.weight <= 1
        assert 1 <= method.downsampling_factor <= 6 and 1 <= method.region_size <= 5
        assert method.downsampling in ("average", "max", "interpolation")
        full = base.optimiser.learning_rate
        assert full / 10 <= rate <= full * 10
        optimiser = replace(experiment.optimiser, learning_rate=full)
        assert replace(experiment, method=base.method, optimiser=optimiser) == base
        assert method.network == base.method.network
    assert len({experiment.id for experiment in built}) == len(study.trials) == 30


def test_the_search_reaches_every_manner_and_both_ends_of_the_whole_numbers() -> None:
    _, built = study_of(streets.embedded_rmi(), 60)
    assert {experiment.method.downsampling for experiment in built} == {"average", "max", "interpolation"}
    assert {experiment.method.downsampling_factor for experiment in built} >= {1, 6}
    assert {experiment.method.region_size for experiment in built} >= {1, 5}


def test_a_finished_trials_values_give_its_experiment_back() -> None:
    base = streets.embedded_rmi()
    study, built = study_of(base, 8)
    again = [spaces.region_mutual_information(spaces.FixedTrial(trial.params), base) for trial in study.trials]
    assert [experiment.id for experiment in again] == [experiment.id for experiment in built]


@pytest.mark.parametrize("recipe", [streets.embedded_ce, streets.embedded_bce])
def test_a_method_without_lambda_is_refused(recipe) -> None:
    base = recipe()
    point = spaces.region_mutual_information.point(streets.embedded_rmi())
    with pytest.raises(
        TypeError, match=f"{type(base.method).__name__} has no such settings to search: give a recipe of Region"
    ):
        spaces.region_mutual_information(spaces.FixedTrial(point), base)


def test_a_missing_value_is_named() -> None:
    with pytest.raises(KeyError, match="downsampling_factor"):
        spaces.region_mutual_information(spaces.FixedTrial({"lambda": 0.5}), streets.embedded_rmi())


def test_a_grid_is_every_value_with_every_other_and_the_rest_as_published() -> None:
    base = streets.camvid_rmi()
    grid = spaces.RegionMutualInformationGrid(downsampling_factor=(1, 4), downsampling=("max", "average"))
    values = grid.values(base)
    assert values == {
        "lambda": (0.5,),
        "downsampling_factor": (1, 4),
        "region_size": (3,),
        "downsampling": ("max", "average"),
        "learning_rate": (1e-3,),
    }
    assert grid and not spaces.RegionMutualInformationGrid()


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (spaces.RegionMutualInformationGrid(weight=(0.0, 1.5)), r"λ \(weight\) = 1.5: it lies in 0..1"),
        (spaces.RegionMutualInformationGrid(region_size=(0,)), "region size = 0: use 1"),
        (spaces.RegionMutualInformationGrid(region_size=(3, 1, 3)), "region_size = 3 1 3: name each value once"),
        (
            spaces.RegionMutualInformationGrid(downsampling_factor=(1, 60)),
            "downsampling factor 60 with region size 3 needs images of at least 180 x 180",
        ),
    ],
)
def test_a_grid_with_a_point_that_cannot_be_trained_is_refused(grid, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid.values(streets.camvid_rmi())


@pytest.mark.parametrize("clusters", [None, 11])
def test_infosegs_default_point_is_its_base_and_every_point_builds(clusters: int | None) -> None:
    recipe = RECIPES["embedded-infoseg"](seed=4)
    assert isinstance(recipe.method, InfoSeg)
    base = replace(recipe, method=replace(recipe.method, temperature=recipe.method.tau, clusters=clusters))
    assert spaces.infoseg(spaces.FixedTrial(spaces.infoseg.point(base)), base) == base
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial(spaces.infoseg.point(base))
    built = [spaces.infoseg(study.ask(), base) for _ in range(20)]
    assert built[0] == base and len({experiment.id for experiment in built}) == 20
    for experiment in built:
        method = experiment.method
        assert isinstance(method, InfoSeg)
        assert 1 / 30 <= method.tau * 8 <= 30 and method.network.features in (16, 32, 64, 128)
        assert method.clusters in ((None,) if clusters is None else (11, 22))
        assert replace(experiment, method=base.method, optimiser=base.optimiser) == base
    with pytest.raises(TypeError, match="PixelKMeans has no such settings to search: give a recipe of InfoSeg"):
        spaces.infoseg(spaces.FixedTrial({}), RECIPES["embedded-kmeans"]())
