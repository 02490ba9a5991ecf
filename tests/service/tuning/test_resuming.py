"""A tuning that goes on: what extends it is said, what would mix experiments is refused by its option's name."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from miseg.commands.tune import any_recipe, infoseg, rmi, similarity
from miseg.methods import registry
from miseg.methods.configs import BinaryCrossEntropy, PixelKMeans
from miseg.metric_names import OBJECTIVE_TAG
from miseg.networks.configs import EncoderDecoder, UNet
from miseg.recipes import spaces
from miseg.recipes.experiment import to_dict
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.description import CONCURRENT, order_text
from miseg.service.tracking.run_store import RunDetails, RunStore
from miseg.service.tuning import options, record, repeats, resuming
from miseg.service.tuning.command import TuningRequest, requests
from miseg.service.tuning.resuming import Begun
from miseg.service.tuning.tuning import Tuning
from miseg.settings import differing

KNOWN = {item.name for item in fields(rmi.TuneRmi)}
COMMANDS: list[Any] = [rmi.TuneRmi, infoseg.TuneInfoSeg, similarity.TuneSimilarity, any_recipe.TuneAnyRecipe]


@pytest.fixture
def tuning(small, tiny, uri, tmp_path) -> Tuning:
    base = replace(tiny, augmentation=replace(tiny.augmentation, crop=None, resize=(48, 64)))
    return Tuning(
        name="street",
        base=base,
        space=spaces.region_mutual_information,
        default_point=spaces.region_mutual_information.point(base),
        rivals={"BCE": replace(base, method=BinaryCrossEntropy(UNet(2, "group"))), "RMI as published": base},
        tuned="RMI tuned",
        data=small.uri,
        storage=str(tmp_path),
        tracking_uri=uri,
        resources=Resources(2, 0, 1, 1),
        trials=2,
        confirm_seeds=1,
    )


def with_all(tuning: Tuning, **changes: Any) -> Tuning:
    """The tuning with other settings of all its experiments, as an option changes them."""
    rivals = {row: replace(experiment, **changes) for row, experiment in tuning.rivals.items()}
    return replace(tuning, base=replace(tuning.base, **changes), rivals=rivals)


def resized(tuning: Tuning, size: tuple[int, int] | None) -> Tuning:
    return with_all(tuning, augmentation=replace(tuning.base.augmentation, resize=size))


def with_network(tuning: Tuning, network: Any) -> Tuning:
    method: Any = tuning.base.method
    return replace(tuning, base=replace(tuning.base, method=replace(method, network=network)))


def test_what_differs_between_two_descriptions_is_named_by_its_path(tiny) -> None:
    assert differing(to_dict(tiny), to_dict(tiny)) == {}
    other = replace(tiny, steps=40, augmentation=replace(tiny.augmentation, flip=0.25))
    assert differing(to_dict(tiny), to_dict(other)) == {"augmentation.flip": (0.5, 0.25), "steps": (24, 40)}
    network = replace(tiny, method=replace(tiny.method, network=EncoderDecoder("unet", "resnet18")))
    assert differing(to_dict(tiny), to_dict(network)) == {"method.network": ("UNet", "EncoderDecoder")}
    assert differing({"a": 1}, {"b": 2}) == {"a": (1, None), "b": (None, 2)}


def test_what_extends_a_tuning_is_said_with_its_amount(tuning) -> None:
    then = Begun.of(tuning)
    assert resuming.growth("street", then, then, KNOWN) == []
    more = replace(tuning, trials=5, confirm_seeds=3, rivals={"CE": tuning.base, **tuning.rivals})
    lines = resuming.growth("street", then, Begun.of(more), KNOWN)
    assert lines == ["--trials 2 to 5, 3 more", "--confirm-seeds 1 to 3, 2 more", "--baselines CE added"]


CHANGES: list[tuple[Any, list[str]]] = [
    (lambda t: with_all(t, steps=20), ["--steps 20: it was begun with 24"]),
    (lambda t: with_all(t, steps=20, validate_every=4), ["--steps 20: it was begun with 24"]),
    (lambda t: resized(t, (32, 48)), ["--size 32 48: it was begun with 48 64"]),
    (lambda t: resized(t, None), ["--size none: it was begun with 48 64"]),
    (lambda t: replace(with_all(t, seed=9), seed=9), ["--seed 9: it was begun with 0"]),
    (lambda t: with_all(t, data="elsewhere"), ["--data elsewhere: it was begun with"]),
    (lambda t: with_network(t, UNet(16, "group")), ["--initial-features 16: it was begun with 2"]),
    (lambda t: with_network(t, EncoderDecoder("unet")), ["--network EncoderDecoder: it was begun with UNet"]),
    (lambda t: with_all(t, batch_size=8), ["batch_size 8: it was begun with 4"]),
    (lambda t: replace(t, trials=1), ["--trials 1: it was begun with 2"]),
    (lambda t: replace(t, selection="objective"), ["--selection objective: it was begun with labels"]),
    (lambda t: replace(t, space=spaces.infoseg), ["--space miseg.recipes.spaces.infoseg: it was begun with miseg."]),
    (
        lambda t: replace(t, grid={"region_size": [1, 2]}),
        ["--grid {'region_size': [1, 2]}: it was begun with a search"],
    ),
    (lambda t: replace(t, resources=Resources(2, 0, 2, 1)), ["--workers-per-trial 2: it was begun with 1"]),
    (lambda t: replace(t, resources=Resources(2, 0, 1, 2)), ["--concurrent 2: it was begun with 1"]),
    (
        lambda t: replace(t, rivals={"RMI as published": t.base}),
        ["--baselines RMI as published: it was begun with BCE"],
    ),
    (
        lambda t: replace(with_all(t, steps=30, seed=4), seed=4),
        ["--steps 30: it was begun with 24", "--seed 4: it was begun with 0"],
    ),
]


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=[said[0].partition(":")[0] for _, said in CHANGES])
def test_what_would_mix_experiments_is_refused_by_name_with_both_values(tuning, change, said) -> None:
    with pytest.raises(ValueError, match="street cannot go on so") as caught:
        resuming.growth("street", Begun.of(tuning), Begun.of(change(tuning)), KNOWN)
    message = str(caught.value)
    assert all(part in message for part in said), message
    assert message.count("it was begun with") == len(said), "each option is named once, and none beside it"


def test_settings_without_an_option_are_named_as_set_has_them(tuning) -> None:
    now = Begun.of(with_all(tuning, batch_size=8))
    with pytest.raises(ValueError, match="--set batch_size 8: it was begun with 4"):
        resuming.growth("street", Begun.of(tuning), now, {*KNOWN, "set"})


def test_data_that_were_packed_anew_are_refused(tuning, mixed_sizes) -> None:
    now = replace(Begun.of(tuning), data=mixed_sizes.fingerprint)
    with pytest.raises(ValueError, match=r"--data as it is packed now \(\w+\): it was begun with other packed images"):
        resuming.growth("street", Begun.of(tuning), now, KNOWN)


def test_trials_at_a_time_matter_while_there_are_trials_to_search(tuning) -> None:
    one, two = Begun.of(tuning), Begun.of(replace(tuning, resources=Resources(2, 0, 1, 2)))
    assert resuming.growth("street", one, two, KNOWN, searched=True) == []
    assert resuming.growth("street", two, one, KNOWN) == []
    with pytest.raises(ValueError, match="--concurrent 2"):
        resuming.growth("street", one, replace(two, trials=3), KNOWN, searched=True)
    assert resuming.growth("street", one, two, KNOWN - {"concurrent"}) == []  # the cluster's own, as in a study


def test_what_it_was_begun_with_is_kept_and_grows_with_it(tuning, uri) -> None:
    run_id = record.open_run(tuning)
    run = resuming.find(uri, "street")
    assert run is not None and run.info.run_id == run_id and resuming.find(uri, "avenue") is None
    assert resuming.read(uri, run) == Begun.of(tuning)
    assert resuming.counts(run) == {"trials": 2, "confirm_seeds": 1}
    assert resuming.extended(tuning, run, KNOWN) == []
    more = replace(tuning, trials=4, resources=Resources(2, 0, 1, 3))
    with pytest.raises(ValueError, match="--concurrent 3"):
        resuming.extended(more, run, KNOWN)
    assert record.open_run(more) == run_id
    again = resuming.find(uri, "street")
    assert again is not None and resuming.counts(again)["trials"] == 4 and again.data.params["trials"] == "2"
    assert again.data.tags[repeats.SETTINGS] == repeats.settings_of(more) and again.data.tags[CONCURRENT] == "3"
    record.open_run(replace(more, resources=Resources(2, 0, 1, 1)))
    assert resuming.concurrent(tuning, run_id) == 3, "one at a time at the end is not one at a time throughout"


def test_a_tuning_that_kept_no_list_is_compared_by_its_hash(tuning, uri, monkeypatch) -> None:
    run_id = record.open_run(tuning)
    run = resuming.find(uri, "street")
    assert run is not None
    monkeypatch.setattr(resuming, "read", lambda uri, run: None)
    assert resuming.extended(replace(tuning, trials=3), run, KNOWN) == ["--trials 2 to 3, 1 more"]
    with pytest.raises(ValueError, match=f"run {run_id}, was begun with other settings than these"):
        resuming.extended(with_all(tuning, steps=20), run, KNOWN)


def test_options_that_are_left_out_are_as_it_was_begun(tuning, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    given = {"steps": 24, "size": [48, 64], "baselines": ["bce"], "grid": {"weight": [0.25, 0.5]}}
    begun = replace(tuning, options=given)
    record.open_run(begun)
    (tmp_path / "tunings" / "street-search").mkdir(parents=True)
    arguments = rmi.TuneRmi(storage=str(tmp_path), name="street", resume=True)
    assert options.resumed(arguments, "tune-rmi-embedded") == Begun.of(begun)
    assert (arguments.steps, arguments.size, arguments.trials, arguments.confirm_seeds) == (24, (48, 64), 2, 1)
    assert arguments.grid == spaces.RegionMutualInformationGrid(weight=(0.25, 0.5))
    assert arguments.concurrent == 1 and arguments.seed is None and arguments.value("seed") == 0
    other = rmi.TuneRmi(storage=str(tmp_path), name="street", resume=True, steps=40, trials=9, baselines=("ce",))
    options.resumed(other, "tune-rmi-embedded")
    assert (other.steps, other.trials, other.baselines) == (40, 9, ("bce", "ce"))


def test_a_tuning_of_before_goes_on_with_the_warm_up_that_it_had(tuning, uri, tmp_path, monkeypatch) -> None:
    """Warm-ups did not keep their share of fewer steps then, and nothing in what was kept of a tuning said so."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, given, expected in (("before", {"steps": 8}, 20), ("now", {"steps": 8, "warm_up": "share"}, 2)):
        record.open_run(replace(tuning, name=name, options=given))
        (tmp_path / "tunings" / f"{name}-search").mkdir(parents=True)
        arguments = rmi.TuneRmi(storage=str(tmp_path), name=name, resume=True)
        options.resumed(arguments, "tune-rmi-embedded")
        base, rivals = rmi.experiments(arguments)
        assert base.steps == 8 and rivals["BCE"].optimiser == base.optimiser
        assert base.optimiser.warmup_steps == expected, "of 100 steps the recipe's warm-up takes 20"
        # What it is kept with says the same once more.
        assert arguments.given["warm_up"] == ("share" if name == "now" else "recipe")


def test_the_same_options_are_a_request_of_before_too() -> None:
    arguments = rmi.TuneRmi(steps=8)
    request = requests(arguments, lambda: TuningRequest("stem", *rmi.experiments(arguments)))
    assert request.base.optimiser.warmup_steps == 2 and arguments.warm_up == "share"
    assert request.of_before is not None and request.of_before.of_before is None
    assert request.of_before.base == replace(request.base, optimiser=replace(request.base.optimiser, warmup_steps=20))
    whole = rmi.TuneRmi()
    assert requests(whole, lambda: TuningRequest("stem", *rmi.experiments(whole))).of_before is None


def test_nothing_is_taken_from_elsewhere_without_resume(tmp_path) -> None:
    arguments = rmi.TuneRmi(storage=str(tmp_path), name="street")
    assert options.resumed(arguments, "tune-rmi-embedded") is None
    assert arguments == rmi.TuneRmi(storage=str(tmp_path), name="street")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_that_decides_a_result_can_be_left_out(command) -> None:
    """An option with a default of its own could not be told from one that was given."""
    arguments = command(recipe="embedded-rmi") if command is any_recipe.TuneAnyRecipe else command()
    apart = {"offline", "resume", "when_storage_fails", "recipe", "grid", "spread", "trust_state"}
    options = [item.name for item in fields(command) if item.init and item.name not in apart]
    assert all(getattr(arguments, name) is None for name in options)
    assert set(arguments.given) <= {"recipe", "warm_up"}
    assert arguments.value("seed") == 0 and arguments.value("confirm_seeds") == 3
    assert isinstance(arguments.value("baselines"), tuple)


def test_confirmed_runs_are_named_by_the_table_that_stands(tuning, uri) -> None:
    """With another winner the earlier one's rows are out, and the same run may stand in another row."""
    parent = record.open_run(tuning)
    experiment_name = mlflow_runs.experiment_name(tuning.base.data)
    runs = {}
    for name, row in (("a", "RMI as published (= tuned)"), ("b", "RMI tuned"), ("c", None)):
        tags = {} if row is None else {record.CONFIRMED: "yes", "miseg.row": row}
        runs[name] = mlflow_runs.open_run(tuning.store, experiment_name, name, RunDetails(parent=parent, tags=tags))
    record.name_rows(tuning, parent, pd.DataFrame([{"run_id": runs["a"], "row": "RMI as published"}]))
    tags_of = {name: MlflowClient(uri).get_run(run_id).data.tags for name, run_id in runs.items()}
    assert (tags_of["a"]["miseg.row"], tags_of["a"][record.CONFIRMED]) == ("RMI as published", "yes")
    assert tags_of["b"][record.CONFIRMED] == "no" and record.CONFIRMED not in tags_of["c"]


def test_it_is_said_whether_a_search_is_reproducible() -> None:
    assert "the same command makes the same trials" in order_text("1")
    assert "Up to 2 trials ran at a time" in order_text("2") and "another winner" in order_text("2")
    assert "not known" in order_text("") and "changes nothing" in order_text("2", grid=True)


def by_objective(tuning: Tuning) -> Tuning:
    """A tuning whose trials are compared by their objective on held-out images."""
    without_labels = replace(tuning.base, method=PixelKMeans())
    return replace(tuning, base=without_labels, space=registry.of(without_labels.method).space, selection="objective")


def test_trials_of_another_objective_are_not_searched_on(tuning, capsys) -> None:
    now = Begun.of(by_objective(tuning))
    before = replace(now, objective="")
    assert now.objective and now.tags[OBJECTIVE_TAG] == now.objective and OBJECTIVE_TAG not in before.tags
    assert resuming.growth("street", now, replace(now, trials=5), KNOWN) == ["--trials 2 to 5, 3 more"]
    for then, after in ((before, now), (before, replace(now, trials=5))):
        with pytest.raises(ValueError, match=rf"before {now.objective}, which depended on the order of the files"):
            resuming.growth("street", then, after, KNOWN, searched=then is not before or after.trials > 2)
    capsys.readouterr()
    # Its trials compare with each other, and it is said by what.
    assert resuming.growth("street", before, replace(now, confirm_seeds=2), KNOWN, searched=True)
    assert "warning: street has trials that were compared by the objective" in capsys.readouterr().out


def test_an_objective_of_before_stays_that_of_its_tuning(tuning, uri, monkeypatch) -> None:
    old = by_objective(tuning)
    with monkeypatch.context() as patch:
        patch.setattr(repeats, "OBJECTIVE_SINCE", "")
        run_id = record.open_run(old)
    run = resuming.find(uri, "street")
    assert run is not None and OBJECTIVE_TAG not in run.data.tags
    assert repeats.settings_of(old) != run.data.tags[repeats.SETTINGS] == repeats.settings_of(old, objective="")
    with pytest.raises(ValueError, match="choose another --name"):
        resuming.extended(old, run, KNOWN)
    assert record.open_run(replace(old, confirm_seeds=2)) == run_id
    again = resuming.find(uri, "street")
    assert again is not None and OBJECTIVE_TAG not in again.data.tags
    assert resuming.read(uri, again) == replace(Begun.of(replace(old, confirm_seeds=2)), objective="")


def test_a_tuning_is_found_by_a_name_with_an_apostrophe(uri, tmp_path) -> None:
    details = RunDetails(tags={"miseg.kind": "tuning"})
    run_id = mlflow_runs.open_run(RunStore(str(tmp_path), uri), "miseg/data", "the cat's", details)
    run = resuming.find(uri, "the cat's")
    assert run is not None and run.info.run_id == run_id
    assert resuming.find(uri, "the dog's") is None
