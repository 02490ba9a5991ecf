"""Tunings that go on: what one was begun with is kept beside its run, and what differs later extends it or is refused.

A table whose rows were trained for other steps, at another size or on other data compares nothing. So trials, fresh
seeds and baselines may grow, and every other setting stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Run

from miseg.data.packed.dataset import PackedDataset
from miseg.metric_names import OBJECTIVE_TAG
from miseg.recipes.experiment import from_dict, to_dict
from miseg.recipes.lengths import WarmUp
from miseg.service.command.setting_options import FOLLOW, dashed, option_of, value_text
from miseg.service.tracking import mlflow_runs, queries
from miseg.service.tracking.description import CONCURRENT, KIND, SEEDS, TRIALS
from miseg.service.tuning import repeats
from miseg.settings import differing

if TYPE_CHECKING:
    from miseg.service.tuning.tuning import Tuning

FILE = "tuning.json"
"""Artifact of a tuning's run: see `Begun`."""


@dataclass(frozen=True)
class Begun:
    """Settings of a tuning in plain JSON data. The names of the attributes are the keys of the file.

    Attributes:
        options: options of its command by field name, as far as they were given.
        base: the experiment that is tuned, as `to_dict` gives it.
        rivals: the experiments that are confirmed beside the winner, by row.
        space: identity of the search space.
        point: the point that is tried first.
        grid: values of each parameter of a grid; None for a search.
        trials, confirm_seeds, seed, selection, workers: the job's options, with their defaults.
        concurrent: trials at a time.
        data: fingerprint of the packed data.
        plan: JSON text of the plan that the base was made by; "": a recipe.
        objective: `OBJECTIVE_SINCE`, where objectives compare trials; "" of before.
    """

    base: Mapping[str, Any]
    rivals: Mapping[str, Any]
    space: str
    point: Mapping[str, Any]
    grid: Mapping[str, Any] | None
    trials: int
    confirm_seeds: int
    seed: int
    selection: str
    workers: int
    concurrent: int
    data: str
    plan: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    objective: str = ""

    @classmethod
    def of(cls, tuning: Tuning) -> Begun:
        """The settings of a tuning."""
        return cls(
            base=to_dict(tuning.base),
            rivals={row: to_dict(experiment) for row, experiment in tuning.rivals.items()},
            space=repeats.identity_of(tuning.space),
            point=dict(tuning.default_point),
            grid=None if tuning.grid is None else {name: list(values) for name, values in tuning.grid.items()},
            trials=tuning.points,
            confirm_seeds=tuning.confirm_seeds,
            seed=tuning.seed,
            selection=tuning.selection,
            workers=tuning.resources.workers,
            concurrent=tuning.resources.concurrency,
            data=PackedDataset.open(tuning.data).fingerprint,
            plan=tuning.plan,
            options=tuning.options,
            objective=repeats.objective_of(tuning),
        )

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the tuning's run."""
        tags = {TRIALS: str(self.trials), SEEDS: str(self.confirm_seeds), CONCURRENT: str(self.concurrent)}
        tags |= {OBJECTIVE_TAG: self.objective} if self.objective else {}
        return tags | {KIND: "search" if self.grid is None else "grid"}


def growth(name: str, then: Begun, now: Begun, known: Collection[str], *, searched: bool = False) -> list[str]:
    """By how much a tuning is extended, in words; empty where it goes on as it was.

    Args:
        name: the tuning's.
        then, now: what it was begun with, and what is asked for.
        known: options that its command has, by field name.
        searched: whether its search was finished, with as many trials as are asked for now.

    Raises:
        ValueError: a setting that differs and extends nothing; each is named as the command line has it.
    """
    if then.objective != now.objective:
        repeats.check_objective(name, searches=not searched or now.trials != then.trials)
    refused = _differences(then, now, known)
    open_trials = now.grid is None and not (searched and now.trials == then.trials)
    if "concurrent" in known and open_trials and now.concurrent > then.concurrent == 1:
        refused["--concurrent"] = 1, now.concurrent
    extensible = ("confirm_seeds",) if now.grid is not None else ("trials", "confirm_seeds")
    for option in extensible:
        if getattr(now, option) < getattr(then, option):
            refused[dashed(option)] = getattr(then, option), getattr(now, option)
    if missing := [row for row in then.rivals if row not in now.rivals]:
        refused["--baselines"] = list(then.rivals), [row for row in now.rivals if row not in missing]
    if refused:
        parts = [
            f"{option} {value_text(after)}: it was begun with {value_text(before)}"
            for option, (before, after) in refused.items()
        ]
        raise ValueError(
            f"{name} cannot go on so, for its table would mix what does not compare. {'; '.join(parts)}. Leave these "
            "out to go on, or choose another --name without --resume"
        )
    lines = [
        f"{dashed(option)} {getattr(then, option)} to {getattr(now, option)}, "
        f"{getattr(now, option) - getattr(then, option)} more"
        for option in extensible
        if getattr(now, option) > getattr(then, option)
    ]
    added = [row for row in now.rivals if row not in then.rivals]
    return lines + ([f"--baselines {', '.join(added)} added"] if added else [])


def _differences(then: Begun, now: Begun, known: Collection[str]) -> dict[str, tuple[Any, Any]]:
    """Settings that differ and extend nothing, as (then, now) by the words of the command line."""
    pairs = [(then.base, now.base)] + [(then.rivals[row], now.rivals[row]) for row in then.rivals if row in now.rivals]
    settings: dict[str, tuple[Any, Any]] = {}
    for before, after in pairs:
        settings = differing(_as_now(before), after) | settings
    options: dict[str, tuple[Any, Any]] = {}
    if (recipe := _recipe(then, now)) is not None:
        return {"--recipe": recipe}  # most other settings follow from it
    for path, pair in settings.items():
        if FOLLOW.get(path) not in settings:
            options.setdefault(option_of(path, known), pair)
    others = {
        "--seed": (then.seed, now.seed),
        "--selection": (then.selection, now.selection),
        "--workers-per-trial": (then.workers, now.workers),
        "--space": (then.space, now.space),
    }
    options |= {option: pair for option, pair in others.items() if pair[0] != pair[1] and option not in options}
    if (then.grid is None) != (now.grid is None):
        options["--grid"] = then.grid or "a search", now.grid or "a search"
    else:
        knobs = differing(then.grid or {}, now.grid or {})
        options |= {f"--grid.{dashed(knob)[2:]}": pair for knob, pair in knobs.items()}
    if then.data != now.data and "--data" not in options:
        options["--data"] = f"other packed images ({then.data})", f"as it is packed now ({now.data})"
    return options


def _recipe(then: Begun, now: Begun) -> tuple[Any, Any] | None:
    """Recipes of the two, where both are known and differ."""
    recipes = then.options.get("recipe"), now.options.get("recipe")
    differ = recipes[0] != recipes[1] and bool(then.options) and differing(_as_now(then.base), now.base)
    return recipes if differ else None


def _as_now(experiment: Mapping[str, Any]) -> Mapping[str, Any]:
    """An experiment's description with the fields that settings got since; as it is where this code cannot read it."""
    try:
        return to_dict(from_dict(dict(experiment)))
    except (ValueError, TypeError):
        return experiment


def find(uri: str, name: str) -> Run | None:
    """The run of the tuning called `name`, on whatever data; None where MLflow has none.

    Raises:
        TrackingError: MLflow does not answer.
    """
    client = MlflowClient(uri)
    with mlflow_runs.reachable(uri):
        experiments = [experiment.experiment_id for experiment in queries.all_pages(client.search_experiments)]
        wanted = f"tags.`miseg.kind` = 'tuning' and {queries.named(name)}"
        runs = queries.all_pages(client.search_runs, experiment_ids=experiments, filter_string=wanted)
    return min(runs, key=lambda run: run.info.start_time, default=None)


def concurrent(tuning: Tuning, run_id: str) -> int:
    """Trials at a time, at most, since a tuning was begun; of now where MLflow does not answer."""
    try:
        tag = MlflowClient(tuning.tracking_uri).get_run(run_id).data.tags.get(CONCURRENT, "")
    except mlflow_runs.UNREACHABLE:
        tag = ""
    return int(tag) if tag.isdigit() else tuning.resources.concurrency


def counts(run: Run) -> dict[str, int]:
    """Trials and fresh seeds of a tuning, by option, from its run; nothing of one that was killed as it began."""
    tags = {"trials": TRIALS, "confirm_seeds": SEEDS}
    texts = {option: run.data.tags.get(tag, run.data.params.get(option, "")) for option, tag in tags.items()}
    return {option: int(text) for option, text in texts.items() if text.isdigit()}


def read(uri: str, run: Run) -> Begun | None:
    """Settings that a tuning was begun with; None of an earlier version's, or one that was killed as it began.

    Raises:
        TrackingError: MLflow does not answer.
    """
    data = queries.read_json(uri, run.info.run_id, FILE)
    if data is None:
        return None
    return Begun(**{item.name: data[item.name] for item in fields(Begun) if item.name in data})


def warm_up(uri: str, run: Run) -> WarmUp:
    """Length of the warm-ups that a tuning was begun with: the recipes' where it did not keep it.

    Raises:
        TrackingError: MLflow does not answer.
    """
    begun = read(uri, run)
    return "share" if begun is not None and begun.options.get("warm_up") == "share" else "recipe"


def log(uri: str, run_id: str, tuning: Tuning) -> None:
    """Keep what a tuning is begun, or extended, with."""
    begun, earlier = Begun.of(tuning), MlflowClient(uri).get_run(run_id).data.tags
    if (at_once := earlier.get(CONCURRENT, "0")).isdigit() and int(at_once) > begun.concurrent:
        begun = replace(begun, concurrent=int(at_once))  # one at a time to its end is not one at a time throughout
    if repeats.SETTINGS in earlier:
        begun = replace(begun, objective=earlier.get(OBJECTIVE_TAG, ""))  # its trials were compared by that one
    mlflow_runs.log_json(uri, run_id, FILE, asdict(begun))
    tags = begun.tags | {repeats.SETTINGS: repeats.settings_of(tuning, begun.objective)}
    mlflow_runs.log_metrics(uri, run_id, {}, tags=tags)


def extended(tuning: Tuning, run: Run | None, known: Collection[str] = ()) -> list[str]:
    """Growth of a tuning that goes on as the MLflow run `run`: see `growth`.

    Raises:
        ValueError: as `growth`; of a tuning that kept no list of its settings, that they are not these.
    """
    if run is None:
        return []
    then, now, searched = read(tuning.tracking_uri, run), Begun.of(tuning), run.info.status == "FINISHED"
    if then is not None:
        return growth(tuning.name, then, now, known, searched=searched)
    settings = run.data.tags.get(repeats.SETTINGS)
    if settings is None:
        print(f"{tuning.name}: MLflow does not know what it was begun with, so nothing is compared", flush=True)
        return []
    trials, seeds = ({"trials": now.trials, "confirm_seeds": now.confirm_seeds} | counts(run)).values()
    same = replace(tuning, trials=trials, confirm_seeds=seeds)
    objectives = {repeats.settings_of(same, of): of for of in ("", now.objective)}
    if settings not in objectives:
        raise ValueError(
            f"{tuning.name}, run {run.info.run_id}, was begun with other settings than these, by a miseg that kept no "
            "list of them: repeat the options of its command (the run's description has it), or choose another --name"
        )
    begun = replace(now, trials=trials, confirm_seeds=seeds, objective=objectives[settings])
    return growth(tuning.name, begun, now, known, searched=searched)
