"""Whether experiments fit their data and this machine, found out without torch, Ray or MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from miseg.data.loading.pairs import pairs_split
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.names import is_packed
from miseg.data.sources.catalog import ensure_packed
from miseg.optimisation.schedules import peak_learning_rate
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import pretrained
from miseg.service.command import memory
from miseg.service.command.networks import check_batch_norm
from miseg.service.command.options import JobOptions

NEVER_REACHED = 0.5
"""Share of the learning rate below which the highest one of a training is told."""


def check_early(options: JobOptions, experiments: Sequence[Experiment], workers: int = 1) -> None:
    """Raise ValueError for what is wrong with trainings, as far as it can be told before anything slow is imported.

    Data that are not packed yet are left to the start of the job.

    Args:
        options: the job's, with its storage.
        experiments: what is trained, on one data set.
        workers: training workers of each.
    """
    for experiment in experiments:
        check_alone(experiment, workers)
    data = experiments[0].data
    if "://" in data or "://" in options.root or not is_packed(data, options.root):
        return
    dataset = PackedDataset.open(ensure_packed(data, options.root))
    for experiment in experiments:
        check_fits(experiment, dataset, ("train", "val"))
    if options.starts_ray:
        memory.check(experiments, dataset)


def check_alone(experiment: Experiment, workers: int, splits: Sequence[str] = ("train",)) -> None:
    """Raise for what is wrong with an experiment whatever its data are, and whatever the cluster is."""
    experiment.check_shares(workers)
    # Whether there are GPUs, over which batch norm is shared, only the cluster says.
    if "train" in splits and workers == 1:
        check_batch_norm(experiment, workers, shared=False)


def check_fits(experiment: Experiment, dataset: PackedDataset, splits: Sequence[str]) -> None:
    """Raise ValueError where the experiment asks for what the data set does not have."""
    if not dataset.info.classes:
        kind = type(experiment.method).__name__
        if experiment.supervision == "dense":
            raise ValueError(f"{dataset.uri} has no labels, and {kind} learns from them: use another method")
        if getattr(experiment.method, "clusters", 0) is None:
            raise ValueError(f"{dataset.uri} has no classes: say how many clusters {kind} gives (--method.clusters)")
    for split in splits:
        dataset.size(experiment.validation_split(dataset.splits) if split == "val" else split)
    pretrained.check_sources(experiment)
    augmentation, channels = experiment.augmentation, dataset.info.channels
    if augmentation.mean is not None and len(augmentation.mean) != channels:
        raise ValueError(f"augmentation.mean has {len(augmentation.mean)} values for images of {channels} channels")
    if "train" not in splits:
        return
    check_views(experiment, dataset)
    labelled, size = experiment.labelled_images, dataset.size("train")
    if labelled is not None and labelled > size:
        raise ValueError(f"label_budget = {labelled} labelled images: {experiment.data} has {size} training images")
    _check_stacks(experiment, dataset)
    check_size = getattr(experiment.method, "check_size", None)
    if check_size is not None:
        row = dataset.read("train", 0)
        check_size(*(experiment.training_size or (row.height, row.width)))


def check_views(experiment: Experiment, dataset: PackedDataset) -> None:
    """Raise ValueError where a method that learns from pairs of views would see the same pixels twice in each."""
    pairs = experiment.pairs
    if not experiment.learns_from_pairs or pairs.shift or pairs.turn or pairs.jitter:
        return
    split = pairs_split(pairs, dataset.splits)
    places = [series for _, series, date in dataset.index(split) if series is not None and date is not None]
    if pairs.other_date == 0 or len(set(places)) == len(places):
        why = "pairs.other_date = 0" if pairs.other_date == 0 else f"{dataset.uri} shows no place at two dates"
        raise ValueError(
            f"{why}, and pairs.shift, pairs.turn and pairs.jitter are off: both views of a pair would be the same "
            "pixels; switch one of them on (--pairs.turn)"
        )


def _check_stacks(experiment: Experiment, dataset: PackedDataset) -> None:
    """Raise ValueError where images of different sizes would be in one batch."""
    augmentation = experiment.augmentation
    if augmentation.crop is not None or isinstance(augmentation.resize, tuple) or experiment.batch_size == 1:
        return
    sizes = sorted(set(dataset.columns("train", "height", "width")))
    if len(sizes) > 1:
        (height, width), (other_height, other_width) = sizes[0], sizes[-1]
        raise ValueError(
            f"images of one batch differ in size, such as {height}x{width} and {other_height}x{other_width} of "
            f"{experiment.data}: set augmentation.crop, or augmentation.resize to a height and a width"
        )


def without_effect(experiment: Experiment, dataset: PackedDataset) -> Iterator[str]:
    """A sentence for each setting that does not do what it says, with the mend."""
    optimiser, steps = experiment.optimiser, experiment.steps
    highest, short = peak_learning_rate(steps, optimiser), max(1, steps // 20)
    if optimiser.warmup_steps and highest < NEVER_REACHED * optimiser.learning_rate:
        yield (
            f"the learning rate gets to {highest:.2g} and not to its {optimiser.learning_rate:g}: the warm-up takes "
            f"{optimiser.warmup_steps:,} of {steps:,} steps; a short one is --optimiser.warmup-steps {short}"
        )
    if experiment.supervision != "dense":
        return
    images = dataset.size("train") if experiment.labelled_images is None else experiment.labelled_images
    if experiment.batch_size > images:
        yield (
            f"a batch of {experiment.batch_size} holds images of the {images} to train on more than once: "
            f"--batch-size {images} holds each once"
        )
    crop, augmentation = experiment.augmentation.crop, experiment.augmentation
    if crop is not None and augmentation.resize is None:
        largest = max(augmentation.scale) if augmentation.scale else 1.0
        sizes = dataset.columns("train", "height", "width")
        smaller = sum(height * largest < crop[0] and width * largest < crop[1] for height, width in sizes)
        if smaller == len(sizes):
            height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
            yield (
                f"windows of {crop[0]}x{crop[1]} are larger than every image ({height}x{width} at most): what is "
                "beyond an image counts nowhere; a smaller --augmentation.crop takes less time"
            )
