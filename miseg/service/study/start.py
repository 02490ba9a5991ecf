"""The frame of a study: its options, and the way from them to a plan and the cluster that it runs on."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from miseg.file_names import below, last_name
from miseg.recipes.contenders import CONTENDERS, STEMS
from miseg.recipes.study import Changes, StudyTable, has_recipes
from miseg.recipes.study_growth import Asked, grown
from miseg.service.checkpoints.pretrained import check_sources
from miseg.service.cluster.uris import check_recorded
from miseg.service.command.options import JobOptions, check_data

if TYPE_CHECKING:
    from miseg.recipes.experiment import Experiment
    from miseg.service.command.start import Job
    from miseg.service.study.plan import StudyPlan, Throughput
    from miseg.service.study.study import Study

if TYPE_CHECKING:
    Method = str
else:
    Method = Literal[tuple(CONTENDERS)]
"""Short name of a registered method."""


@dataclass
class Options(JobOptions):
    """Tune, confirm and test methods x data sets x label budgets; a study that exists grows by what is added."""

    data: tuple[str, ...] | None = None
    """Data sets by name, starts of recipes' names (camvid-v3plus, porto-voc), or folders or URIs of packed ones. Of
    own data, by name, folder or description, settings are planned from the data and printed with the reasons.
    Default: embedded, or with --resume those of the study."""
    methods: tuple[Method, ...] | None = None
    """Methods to compare; one that learns from labels and has no recipe for the data takes another method's settings.
    Default: all but the losses of overlap, focal, relative-position, co-occurrence and what other packages add, as far
    as there are recipes for the data, or with --resume those of the study."""
    budgets: tuple[str, ...] | None = None
    """Label budgets of all methods: all, or numbers, of labelled images, and for few-label methods of labelled pixels
    of each class. Default: all, and 50 pixels."""
    labelled_images: tuple[str, ...] | None = None
    """Label budgets of methods that learn from images alone: all, or numbers of labelled images. Default: --budgets."""
    labelled_pixels_per_class: tuple[int, ...] | None = None
    """Label budgets of few-label methods alone: numbers of labelled pixels of each class. Default: --budgets."""
    networks: tuple[str, ...] | None = None
    """Networks on which methods that learn from dense labels are compared, a table each: ARCHITECTURE,
    ARCHITECTURE:ENCODER or ARCHITECTURE:ENCODER:WEIGHTS, such as unet:resnet18 segformer:mit_b0, or paper-unet.
    Default: the recipes', or with --resume those of the study."""
    trials: int | None = None
    """Trials of every method; the first is the paper's default. Default: 6, or 32 on a cluster with GPUs."""
    confirm_seeds: int | None = None
    """Fresh seeds on which each winner and default is trained and tested. Default: 3."""
    changes: Annotated[Changes, tyro.conf.arg(name="")] = field(default_factory=Changes)
    baseline: Method | None = None
    """The others are measured against it. Default: ce; kmeans where there are no labels, autoencoder where few."""
    selection: Literal["objective", "labels"] | None = None
    """Score of the trials of methods without labels: their own objective on held-out images, or mean IoU.
    Default: objective."""
    seed: int | None = None
    """Seeds the searches, and the trials' weights and data order. Default: 0."""
    concurrent: int | None = None
    """Trials at a time, at most 8. Default: what the GPUs hold; without a GPU, what the CPUs and the memory hold."""
    cldice: tuple[str, ...] = ()
    """Thin classes, such as pole or vessel, whose clDice is measured in the end on the data sets that have them (extra
    cldice). With --resume, what was measured without it is measured once more, and classes named before stay."""
    name: str | None = None
    """Name of the study. Default: the time."""
    resume: bool = False
    """Continue the study called --name (default: the last one), with what is added to it; nothing that is done is done
    again."""
    trust_state: bool = False
    """With --resume: run the state of tunings that your key did not sign (docs/security.md). Whoever can write to the
    storage may have put code into it."""
    plan: bool = False
    """Print trials, steps, hours and price that are expected, and start no trial."""
    throughput: Literal["recorded", "measured"] = "recorded"
    """Source of the hours: earlier runs of the same method and size (a few steps where there are none), or a few
    steps in any case."""
    price_per_hour: float | None = None
    """Price of an hour of a GPU, or, without one, of the machine, in your currency."""

    @property
    def asked(self) -> Asked:
        """The request that the arguments make."""
        return Asked(
            self.data,
            self.methods,
            self.budgets,
            self.trials,
            self.confirm_seeds,
            self.changes,
            self.baseline,
            self.seed,
            self.selection,
            self.labelled_images,
            self.labelled_pixels_per_class,
            self.networks,
        )

    def check(self) -> None:
        """Raise ValueError for a value out of range."""
        for option in ("trials", "confirm_seeds"):
            if (value := getattr(self, option)) is not None and value < 1:
                raise ValueError(f"--{option.replace('_', '-')} {value}: use 1 or more")
        if self.name is not None and not re.fullmatch(r"[\w.-]+", self.name):
            raise ValueError(
                f"--name {self.name}: use letters, digits and . _ - alone; it becomes a part of file names"
            )
        if self.price_per_hour is not None and not self.price_per_hour >= 0:
            raise ValueError(f"--price-per-hour {self.price_per_hour:g}: use 0 or more")


def start(options: Options) -> Study:
    """The study that is asked for, with the throughput of each of its cells, on the cluster that it runs on.

    Raises:
        ValueError: a setting that does not fit, a name that is taken, or nothing to resume.
        TrackingError: MLflow does not answer.
    """
    options.check()
    _check_data(options)
    if not options.resume:
        # Its errors need no server.
        for table in grown((), options.asked, {"trials": 1, "confirm_seeds": 1}):
            for cell in table.cells:
                check_sources(cell.base)
    known = _known(options)
    # Only now: they bring torch, Ray and MLflow along.
    from miseg.service.command.start import prepare
    from miseg.service.study import planning
    from miseg.service.study.plan import Devices, timed
    from miseg.service.study.study import Study

    def tables(trials: int) -> tuple[StudyTable, ...]:
        return grown(known.tables, options.asked, {"trials": trials, "confirm_seeds": 3})

    jobs: dict[str, Job] = {}
    planned = planning.with_plans(options, tables(6))
    if plans := planning.text(planned):
        print(plans, flush=True)
    for data in dict.fromkeys(table.data for table in planned):
        of_data = [table for table in planned if table.data == data]
        experiments = [cell.base for table in of_data for cell in table.cells]
        own_options = replace(options, decoded_gib=_decoded_gib(options, planning.decoded_gib(of_data)))
        jobs[data] = prepare(own_options, experiments, concurrency=options.concurrent)
    resources = next(iter(jobs.values())).resources
    if resources.use_gpu:
        by_id = {table.id: table for table in planned}
        planned = tuple(replace(table, plan=by_id[table.id].plan, cells=by_id[table.id].cells) for table in tables(32))

    def measure(experiment: Experiment) -> Throughput:
        return _throughput(options, experiment, jobs[experiment.data])

    devices = Devices(resources.use_gpu, resources.concurrency, options.price_per_hour)
    _check_thin(options.cldice, jobs)
    return Study(timed(known, planned, measure), jobs, devices, options.cldice, options.trust_state)


def _check_thin(thin: tuple[str, ...], jobs: Mapping[str, Job]) -> None:
    """Raise ValueError for a class that no data set has, MissingExtraError where clDice's extra is missing."""
    if not thin:
        return
    # Not at the top: --help must not wait for it.
    from miseg.data.packed.dataset import PackedDataset
    from miseg.service.evaluation.scores import FurtherMeasures

    classes = {name: None for job in jobs.values() for name in PackedDataset.open(job.data).info.classes}
    FurtherMeasures(thin=thin).check(tuple(classes), ", ".join(jobs))


def _check_data(options: Options) -> None:
    """Raise ValueError for an unknown data set; a description is replaced by the name of its data."""
    if options.data is None:
        return
    names = []
    for data in options.data:
        if data in STEMS or has_recipes(data):
            names.append(data)
            continue
        check_data(data, options.root)
        # Not at the top: --help must not wait for it.
        from miseg.data.sources.catalog import is_description

        if is_description(data):
            from miseg.service.command.start import packed

            data = last_name(packed(data, options.root).replace("\\", "/"))
        names.append(data)
    options.data = tuple(names)


def _decoded_gib(options: Options, planned: float | None) -> float | None:
    """GiB of decoded images: what the command line or the environment says, or else what is planned."""
    said = options.decoded_gib is not None or os.environ.get("MISEG_DECODED_GIB")
    return options.decoded_gib if said else planned


def _known(options: Options) -> StudyPlan:
    """The study to resume as it was planned, or an empty one."""
    # Not at the top: --help must not wait for them.
    from miseg.service.command.start import unique
    from miseg.service.study import record
    from miseg.service.study.plan import StudyPlan
    from miseg.service.tracking import mlflow_runs

    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if options.resume:
        check_recorded(options.root, options.offline)
    uri = mlflow_runs.tracking_uri(options.root, options.offline)
    mlflow_runs.check(uri, options.root)
    plan = record.find(uri, options.name) if options.resume or options.name else None
    if options.resume:
        if plan is None:
            raise ValueError(f"no study {options.name or ''} at {uri}: leave --resume out to start one")
        if not plan.tables and options.data is None:
            raise ValueError(
                f"study {plan.study} ended before its plan was kept: say again what it compares, --data and --methods "
                "too, beside --resume"
            )
        if not options.trust_state:
            _check_states(options, uri, plan)
        return replace(plan, created=plan.created or created)
    if plan is not None and not options.plan:
        raise ValueError(f"a study called {plan.study} exists: continue it, or add to it, with --resume")
    return StudyPlan(options.name or f"study-{unique()}", created, ())


def _check_states(options: Options, uri: str, plan: StudyPlan) -> None:
    """Raise ValueError where a tuning that goes on has a state that we did not sign; no Ray is started for it."""
    # Not at the top: --help must not wait for them.
    from miseg.service.study import record
    from miseg.service.tuning import state

    done = record.done(uri, plan)
    for table in plan.tables:
        grows = options.data is None or table.dataset in options.data
        seeds = max(table.confirm_seeds, (options.confirm_seeds or 0) if grows else 0)
        for name in map(table.cell_id, table.cells):
            if done.get(name, 0) < seeds:
                state.check(below(options.root, "tunings"), plan.tuning_name(name))


def _throughput(options: Options, experiment: Experiment, job: Job) -> Throughput:
    # Not at the top: --help must not wait for them.
    from miseg.service.study import throughput

    recorded = None
    if options.throughput == "recorded":
        recorded = throughput.recorded(job.tracking_uri, experiment, use_gpu=job.resources.use_gpu)
    return recorded or throughput.measured(experiment, job.data, job.resources)
