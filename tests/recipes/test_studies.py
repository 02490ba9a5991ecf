"""What a study compares: tables of equal budgets, how they grow, and that every method has a space to be tuned in."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from typing import get_args

import optuna
import pytest

from miseg.methods import METHODS
from miseg.networks.configs import EncoderDecoder
from miseg.recipes import spaces
from miseg.recipes.catalog import RECIPES
from miseg.recipes.contenders import BASELINES, CONTENDERS, default_methods
from miseg.recipes.planning.plan import PlannedSetting, TrainingPlan
from miseg.recipes.study import Changes, StudyCell, StudyTable
from miseg.recipes.study_growth import Asked, grown
from miseg.service.study.start import Method

DEFAULTS = {"trials": 6, "confirm_seeds": 3}
DENSE = ("ce", "bce", "rmi", "affinity", "mutual")
DATA = ("embedded", "camvid", "sentinel2-flanders")


def ids(tables: tuple[StudyTable, ...]) -> list[str]:
    return [table.cell_id(cell) for table in tables for cell in table.cells]


# Search spaces


@pytest.mark.parametrize("data", DATA)
def test_every_method_s_first_trial_is_its_recipe_and_every_point_builds(data: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for table in grown((), Asked(data=(data,)), DEFAULTS):
        for cell in table.cells:
            contender, base = cell.contender, cell.base
            assert pickle.loads(pickle.dumps(contender.space)) == contender.space
            study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
            study.enqueue_trial(contender.point(base))
            built = [contender.space(study.ask(), base) for _ in range(12)]
            assert built[0] == base and built[0].id == base.id, cell.method
            assert len({experiment.id for experiment in built}) == 12, cell.method
            again = [contender.space(spaces.FixedTrial(trial.params), base) for trial in study.trials]
            assert again == built
            for experiment in built:
                assert replace(experiment, method=base.method, optimiser=base.optimiser) == base
                assert type(experiment.method) is type(base.method)


def test_rates_are_tuned_alike_on_both_sides() -> None:
    """RMI's learning rate was tuned and its baselines' was not: see docs/results/camvid.md."""
    (dense, _) = grown((), Asked(data=("camvid",)), DEFAULTS)
    for cell in dense.cells:
        low = cell.contender.space(Ends(low=True), cell.base).optimiser.learning_rate
        high = cell.contender.space(Ends(low=False), cell.base).optimiser.learning_rate
        assert (low, high) == pytest.approx((1e-4, 1e-2)), cell.method


class Ends:
    """A trial at one end of every range."""

    def __init__(self, low: bool) -> None:
        self.low = low

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return low if self.low else high

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return low if self.low else high

    def suggest_categorical(self, name: str, choices: list) -> object:
        return choices[0 if self.low else -1]


@pytest.mark.parametrize("method", ["affinity", "mutual", "kmeans", "deep-infomax", "autoencoder"])
def test_a_space_refuses_another_method_s_recipe(method: str) -> None:
    contender = CONTENDERS[method]
    for step in (lambda base: contender.space(spaces.FixedTrial({}), base), contender.point):
        with pytest.raises(TypeError, match=r"CrossEntropy has no .*: give a recipe of"):
            step(RECIPES["embedded-ce"]())


def test_every_contender_is_a_method_of_its_supervision_with_a_recipe() -> None:
    assert get_args(Method) == tuple(CONTENDERS) and set(default_methods()) < set(CONTENDERS)
    for key, contender in CONTENDERS.items():
        recipes = [make() for name, make in RECIPES.items() if name.endswith(f"-{key}")]
        assert recipes, key
        assert {METHODS[type(recipe.method)].supervision for recipe in recipes} == {contender.supervision}, key
    assert all(CONTENDERS[key].supervision == kind for kind, keys in BASELINES.items() for key in keys)
    assert len({row for contender in CONTENDERS.values() for row in contender.rows()}) == 2 * len(CONTENDERS)


# Tables


def test_a_new_study_has_what_there_are_recipes_for() -> None:
    tables = grown((), Asked(data=DATA), DEFAULTS)
    found = ids(tables)
    unsupervised = ("kmeans", "iic", "infoseg")
    expected = [f"{data}/all/{m}" for data in ("embedded", "camvid") for m in (*DENSE, *unsupervised)]
    expected += [f"sentinel2-flanders/50/{m}" for m in ("similarity", "deep-infomax", "autoencoder")]
    assert found == expected
    assert [table.baseline_row for table in tables] == [
        "CE tuned", "K-means tuned", "CE tuned", "K-means tuned", "autoencoder tuned",
    ]  # fmt: skip
    assert tables[-1].cells[0].base.label_budget == 50 and tables[0].cells[0].base.label_budget is None
    assert {table.data for table in tables} == set(DATA)


def test_all_methods_of_a_table_have_one_budget() -> None:
    for table in grown((), Asked(data=DATA, changes=Changes(steps=40)), DEFAULTS):
        assert {(cell.base.steps, cell.base.validate_every) for cell in table.cells} == {(40, 8)}
        for name in ("batch_size", "label_budget", "seed", "data"):
            assert len({getattr(cell.base, name) for cell in table.cells}) == 1
    (dense, _) = grown((), Asked(data=("embedded",)), DEFAULTS)
    longer = replace(dense.cells[1], base=replace(dense.cells[1].base, steps=200))
    with pytest.raises(
        ValueError, match=r"embedded/all.*steps differ \(ce 100, bce 200, .*no fair comparison; give --st"
    ):
        replace(dense, cells=(dense.cells[0], longer, *dense.cells[2:]))
    by_seconds = replace(dense, changes=Changes(gpu_seconds=3.0))
    assert replace(by_seconds, cells=(dense.cells[0], longer)).cells[1].base.steps == 200
    smaller = replace(dense.cells[1], base=replace(dense.cells[1].base, batch_size=4))
    with pytest.raises(ValueError, match=r"batch_size differ .*choose other --methods"):
        replace(by_seconds, cells=(dense.cells[0], smaller))


def test_label_budgets_are_of_images_or_pixels() -> None:
    tables = grown((), Asked(data=("camvid", "sentinel2-flanders"), budgets=("all", "10"), methods=None), DEFAULTS)
    assert [(table.name, table.supervision, table.budget_text, table.labels) for table in tables] == [
        ("camvid", "dense", "all", "all"),
        ("camvid", "dense", "10", "10 images"),
        ("camvid", "none", "all", "none"),
        ("sentinel2-flanders", "few", "10", "10 pixels a class"),
    ]
    assert {cell.base.label_budget for cell in tables[1].cells} == {10}
    assert ids(grown((), Asked(budgets=("10",), methods=("ce",)), DEFAULTS)) == ["embedded/10/ce"]


def test_budgets_of_images_and_of_pixels_can_be_asked_for_by_their_names() -> None:
    asked = Asked(
        data=("camvid", "sentinel2-flanders"),
        budgets=("10",),
        labelled_images=("all", "30"),
        labelled_pixels_per_class=(5,),
    )
    named = {
        (table.name, table.labels, cell.base.labelled_images, cell.base.labelled_pixels_per_class)
        for table in grown((), asked, DEFAULTS)
        for cell in table.cells
    }
    assert named == {
        ("camvid", "all", None, None),
        ("camvid", "30 images", 30, None),
        ("camvid", "none", None, None),
        ("sentinel2-flanders", "5 pixels a class", None, 5),
    }
    alone = grown((), replace(asked, labelled_pixels_per_class=None), DEFAULTS)
    assert alone[-1].labels == "10 pixels a class", "what is not named has --budgets"


def test_changes_reach_the_recipes_that_they_are_for() -> None:
    changes = Changes(size=(60, 80), initial_features=2)
    dense, none = grown((), Asked(data=("camvid",), changes=changes), DEFAULTS)
    for cell in dense.cells:
        assert cell.base.augmentation.resize == (60, 80)
        assert cell.base.method.network.initial_features == 2  # type: ignore[union-attr]
    assert none.cells == grown((), Asked(data=("camvid",)), DEFAULTS)[1].cells


def test_images_of_a_batch_are_of_one_size_where_a_size_is_given() -> None:
    """Random scaling needs a crop behind it."""
    scaled = plain = 0
    for make in RECIPES.values():
        base = make()
        if base.supervision != "dense":
            continue
        augmentation = Changes(size=(48, 64)).of(base, "dense").augmentation
        assert augmentation.resize == (48, 64) and augmentation.scale == base.augmentation.scale
        assert augmentation.crop == (None if augmentation.scale is None else (48, 64))
        scaled, plain = scaled + (augmentation.scale is not None), plain + (augmentation.scale is None)
    assert scaled and plain
    base = RECIPES["camvid-v3plus-rmi"]()
    cropped = Changes(size=(48, 64), set=("augmentation.crop=32,32",))
    assert cropped.of(base, "dense").augmentation.crop == (32, 32)
    assert cropped.given(base, "dense")["augmentation.crop"] == (32, 32)
    with_scale = Changes(size=(48, 64), set=("augmentation.scale=0.5,2",)).given(base, "dense")
    assert with_scale["augmentation.crop"] == with_scale["augmentation.resize"] == (48, 64)
    assert Changes(size=(48, 64)).given(base, "dense")["augmentation.crop"] is None


@pytest.mark.parametrize("data", ["/somewhere/street", "s3://bucket/street", "./embedded"])
def test_a_folder_is_planned_for_as_own_data_of_a_name_is(data: str) -> None:
    asked = Asked(methods=("ce", "kmeans"))
    tables = grown((), replace(asked, data=(data,)), DEFAULTS)
    named = grown((), replace(asked, data=("pets",)), DEFAULTS)
    assert [table.is_of_own_data for table in tables] == [True, True]
    for table, other in zip(tables, named, strict=True):
        assert table.name == data.rpartition("/")[2] and table.data == data
        assert [replace(cell, base=replace(cell.base, data="pets")) for cell in table.cells] == list(other.cells)


def test_a_folder_s_table_that_began_with_the_embedded_recipes_goes_on_with_them() -> None:
    cell = StudyCell("ce", "embedded-ce", replace(RECIPES["embedded-ce"](seed=0), data="/somewhere/street"))
    begun = StudyTable("/somewhere/street", "dense", None, 4, 3, cells=(cell,))
    (table,) = grown((begun,), Asked(methods=("rmi",)), DEFAULTS)
    assert not table.is_of_own_data and [cell.recipe for cell in table.cells] == ["embedded-ce", "embedded-rmi"]
    assert table.cells[0] == cell and table.cells[1].base.data == "/somewhere/street"


def test_a_start_of_recipes_has_its_own() -> None:
    (table,) = grown((), Asked(data=("voc-v3plus",)), DEFAULTS)
    assert (table.data, table.methods) == ("voc-aug", ["ce", "bce", "rmi", "affinity"])
    (halves,) = grown((), Asked(data=("sentinel2-flanders-halves",)), DEFAULTS)
    assert halves.data == "sentinel2-flanders-halves" and halves.cells[0].recipe == "flanders-similarity"


# Growth


@pytest.fixture(scope="module")
def known() -> tuple[StudyTable, ...]:
    asked = Asked(data=("embedded",), methods=("ce", "rmi"), changes=Changes(steps=40), trials=4)
    return grown((), asked, DEFAULTS)


def test_nothing_asked_changes_nothing(known) -> None:
    assert grown(known, Asked(), DEFAULTS) == known
    assert grown(known, Asked(data=("embedded",), trials=4, confirm_seeds=3), DEFAULTS) == known


def test_seeds_are_added_to_every_table(known) -> None:
    (table,) = grown(known, Asked(confirm_seeds=5), DEFAULTS)
    assert table.confirm_seeds == 5 and table.cells == known[0].cells
    with pytest.raises(ValueError, match=r"--confirm-seeds 2: embedded/all.* has 3 already"):
        grown(known, Asked(confirm_seeds=2), DEFAULTS)


def test_a_method_is_added_under_the_table_s_own_budget(known) -> None:
    (table,) = grown(known, Asked(methods=("rmi", "bce")), DEFAULTS)
    assert table.methods == ["ce", "rmi", "bce"] and table.trials == 4
    assert table.cells[:2] == known[0].cells and table.cells[2].base.steps == 40


def test_a_table_is_added_with_a_budget_of_its_own(known) -> None:
    asked = Asked(data=("embedded",), methods=("kmeans",), changes=Changes(steps=10), trials=2)
    dense, none = grown(known, asked, DEFAULTS)
    assert dense == known[0] and (none.trials, none.cells[0].base.steps) == (2, 10)
    assert ids(grown(known, Asked(data=("camvid",), methods=("ce",)), DEFAULTS)) == [
        "embedded/all/ce", "embedded/all/rmi", "camvid/all/ce",
    ]  # fmt: skip
    assert ids(grown(known, Asked(budgets=("20",)), DEFAULTS))[2:] == ["embedded/20/ce", "embedded/20/rmi"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            Asked(trials=8),
            r"--trials 8: embedded/all.* is tuned with 4, and all its methods alike; choose a new --name",
        ),
        (Asked(seed=1), "--seed 1: "),
        (Asked(changes=Changes(steps=50)), "--steps 50: .* is planned with 40; choose a new --name"),
        (Asked(changes=Changes(gpu_seconds=2.0)), "--gpu-seconds 2.0: .* is planned with the recipes own"),
        (Asked(methods=("similarity",)), "--methods similarity: no recipe for embedded"),
        (
            Asked(data=("camvid-v3plus",), methods=("similarity",)),
            "--data camvid-v3plus: no recipe of similarity there; there are some for .*camvid, ",
        ),
        (Asked(data=("embedded", "embedded")), "--data embedded embedded: name each once"),
        (Asked(data=("/x/embedded",)), "both are called embedded; rename one of the two"),
        (Asked(budgets=("0",)), "label budget 0: give all, or numbers"),
        (Asked(labelled_images=("5", "5")), "--labelled-images 5 5: name each once"),
        (Asked(labelled_pixels_per_class=(0,)), "label budget 0: give all, or numbers"),
        (Asked(budgets=("some",)), "label budget some: give all, or numbers"),
        (Asked(baseline="bce"), "--baseline bce: compared are ce, rmi"),
    ],
)
def test_what_does_not_fit_is_told(known, asked: Asked, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        grown(known, asked, DEFAULTS)


def test_the_baseline_can_be_chosen(known) -> None:
    (table,) = grown(known, Asked(baseline="rmi"), DEFAULTS)
    assert (known[0].baseline_row, table.baseline_row) == ("CE tuned", "RMI tuned")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Changes(steps=3, gpu_seconds=1.0), "equal steps or equal seconds, give one of the two"),
        (lambda: Changes(gpu_seconds=math.nan), "--gpu-seconds nan: use a value above 0"),
        (lambda: StudyTable("embedded", "dense", None, 0, 1), "--trials 0: use 1 or more"),
        (
            lambda: grown((), Asked(data=("voc-v3",), changes=Changes(initial_features=4)), DEFAULTS),
            "--initial-features is for U-Nets; the network of the recipes of voc-aug is DeepLab",
        ),
    ],
)
def test_settings_out_of_range_are_told(make, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


# Networks


def test_methods_are_compared_on_each_network_in_a_table_of_its_own() -> None:
    asked = Asked(methods=("ce", "rmi", "kmeans"), networks=("unet:resnet18", "segformer:mit_b0"))
    tables = grown((), asked, DEFAULTS)
    dense = [table for table in tables if table.supervision == "dense"]
    assert [table.network for table in dense] == ["unet:resnet18", "segformer:mit_b0"]
    networks = [EncoderDecoder("unet", "resnet18"), EncoderDecoder("segformer", "mit_b0")]
    for table, network in zip(dense, networks, strict=True):
        assert [cell.base.method.network for cell in table.cells] == [network] * 2  # type: ignore[attr-defined]
    ids = [table.cell_id(cell) for table in tables for cell in table.cells]
    assert ids[0] == "embedded/all/unet:resnet18/ce" and len(set(ids)) == len(ids) == 5
    # What is asked for later goes into every table of the study, and a further network is one more.
    grown_tables = grown(tables, Asked(methods=("bce",)), DEFAULTS)
    assert [table.methods for table in grown_tables if table.network] == [["ce", "rmi", "bce"]] * 2
    further = grown(tables, Asked(networks=("paper-unet",)), DEFAULTS)
    assert [table.network for table in further if table.supervision == "dense"][-1] == "paper-unet"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(methods=("kmeans",), networks=("unet",)), "only methods that learn from dense labels"),
        (Asked(methods=("ce",), networks=("unett",)), "did you mean unet"),
        (Asked(methods=("ce",), networks=("unet", "unet")), "name each once"),
    ],
)
def test_networks_that_do_not_fit_are_told(asked: Asked, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grown((), asked, DEFAULTS)


# Own data, and methods without a recipe


PLAN = TrainingPlan(
    "20 images",
    "8 GiB of GPU memory",
    (
        PlannedSetting("augmentation.crop", (256, 192), "the median image"),
        PlannedSetting("batch_size", 6, "at most what the memory holds"),
        PlannedSetting("method.downsampling_factor", 9, "of another method's crop"),
        PlannedSetting("steps", 700, "of √images"),
        PlannedSetting("decoded_gib", 0.5, "holds all training images"),
    ),
)


def test_methods_on_own_data_share_the_table_s_plan_also_those_that_come_later() -> None:
    first = grown((), Asked(data=("pets",), methods=("ce", "dice")), DEFAULTS)
    (table,) = (replace(table, plan=PLAN.of_data, cells=()).filled(table.methods) for table in first)
    (table,) = grown((table,), Asked(methods=("rmi",)), DEFAULTS)
    assert table.methods == ["ce", "dice", "rmi"] and [cell.recipe for cell in table.cells] == table.methods
    for cell in table.cells:
        assert (cell.base.data, cell.base.batch_size, cell.base.steps) == ("pets", 6, 700)
        assert cell.base.augmentation.crop == (256, 192) and cell.base.augmentation.resize is None
    rmi = table.cells[2]
    planned = {setting.path: setting.value for setting in rmi.planned}
    assert planned and planned["method.downsampling_factor"] == rmi.base.method.downsampling_factor != 9
    assert rmi.base == CONTENDERS["rmi"].space(spaces.FixedTrial(CONTENDERS["rmi"].point(rmi.base)), rmi.base)


def test_a_method_without_a_recipe_has_another_s_settings_on_the_same_data_where_it_is_named() -> None:
    (table,) = grown((), Asked(data=("camvid-v3plus",), methods=("ce", "focal")), DEFAULTS)
    ce, focal = table.cells
    assert focal.recipe == ce.recipe == "camvid-v3plus-ce" and isinstance(
        focal.base.method, CONTENDERS["focal"].settings
    )
    assert focal.base.method.network == ce.base.method.network
    assert replace(focal.base, method=ce.base.method) == ce.base
    (unnamed,) = grown((), Asked(data=("camvid-v3plus",)), DEFAULTS)
    assert "focal" not in unnamed.methods


def test_settings_of_the_command_line_are_of_all_methods() -> None:
    changes = Changes(set=("batch_size=4", "augmentation.crop=96,96"))
    tables = grown((), Asked(data=("camvid", "pets"), methods=("ce", "rmi"), changes=changes), DEFAULTS)
    assert {cell.base.batch_size for table in tables for cell in table.cells} == {4}
    assert {cell.base.augmentation.crop for table in tables for cell in table.cells} == {(96, 96)}
    base = tables[1].cells[0].base
    given = replace(changes, steps=9).given(base, "dense")
    assert given == {"batch_size": 4, "augmentation.crop": (96, 96), "steps": 9}
    assert Changes(size=(60, 80)).given(base, "dense") == {
        "augmentation.resize": (60, 80),
        "augmentation.crop": None,
    }
    with pytest.raises(ValueError, match=r"is planned with .*; choose a new --name"):
        grown(tables, Asked(changes=Changes(set=("batch_size=2",))), DEFAULTS)
    with pytest.raises(ValueError, match="--set steps=4: --steps says it"):
        Changes(set=("steps=4",))
    with pytest.raises(ValueError, match="--set batch_sice=4"):
        grown((), Asked(changes=Changes(set=("batch_sice=4",))), DEFAULTS)


def test_own_data_is_compared_on_each_network() -> None:
    asked = Asked(data=("pets",), methods=("ce", "rmi"), networks=("unet:resnet18", "paper-unet"))
    for table in grown((), asked, DEFAULTS):
        filled = replace(table, plan=PLAN.of_data, cells=()).filled(table.methods)
        networks = {cell.base.method.network for cell in filled.cells}  # type: ignore[attr-defined]
        assert len(networks) == 1 and {cell.base.batch_size for cell in filled.cells} == {6}
