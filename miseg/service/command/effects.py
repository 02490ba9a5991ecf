"""Settings of a training that never take effect at its length, or on its images, told before it starts."""

from __future__ import annotations

from collections.abc import Iterator

from miseg.data.packed.dataset import PackedDataset
from miseg.optimisation.schedules import peak_learning_rate
from miseg.recipes.experiment import Experiment

NEVER_REACHED = 0.5
"""Share of the learning rate below which the highest one of a training is told."""


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
