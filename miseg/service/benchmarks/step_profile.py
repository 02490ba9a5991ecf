"""Where the time of a training step goes.

python -m miseg.service.benchmarks.step_profile camvid-rmi

profiles steps of a recipe on noise of its size and prints each kind of operation's share of the time that PyTorch's
profiler sees, the most expensive first.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping

import torch
from torch.profiler import ProfilerActivity, profile

from miseg.interface import Batch, Task
from miseg.recipes.catalog import RECIPES
from miseg.service.benchmarks.rows import device
from miseg.service.training.loop import Loop

WARM_UP, STEPS = 2, 5

KINDS: Mapping[str, tuple[str, ...]] = {
    "loss, backwards": ("_CrossEntropyAndRegionsBackward",),
    "loss, forwards": ("_CrossEntropyAndRegions",),
    "optimiser": ("Optimizer.step#",),
    "convolutions, backwards": ("convolution_backward", "ConvolutionBackward"),
    "convolutions, forwards": ("aten::conv2d", "aten::conv_transpose2d"),
    "batch norm, backwards": ("batch_norm_backward", "BatchNormBackward"),
    "batch norm, forwards": ("aten::batch_norm",),
    "resizing and pooling": ("upsample", "pool"),
    "joining": ("aten::cat", "CatBackward"),
    "activations": ("relu", "threshold"),
}
"""By parts of an operation's name: the first kind that fits it, or one that it is part of, takes its time."""


def shares(recipe: str, classes: int = 11, size: tuple[int, int] = (176, 240)) -> tuple[float, dict[str, float]]:
    """Milliseconds of a step, and each kind's share of the profiled time; what fits none is "the rest"."""
    experiment = RECIPES[recipe]()
    loop = Loop(experiment, Task(classes), device())
    torch.manual_seed(0)
    images = experiment.batch_size
    labels_NHW = torch.randint(0, classes, (images, *size))
    names = tuple(str(number) for number in range(images))
    batch = Batch(torch.randn(images, 3, *size), labels_NHW, names).to(device())
    for _ in range(WARM_UP):
        loop.train_step(batch)
    loop.flush()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device().type == "cuda")
    with profile(activities=activities) as profiled:
        for _ in range(STEPS):
            loop.train_step(batch)
        loop.flush()
    spent: Counter[str] = Counter()
    for event in profiled.events():
        time = event.self_device_time_total if device().type == "cuda" else event.self_cpu_time_total
        spent[_kind(event)] += time
    total = sum(spent.values())
    return total / STEPS / 1000, {kind: time / total for kind, time in spent.most_common()}


def _kind(event: torch.autograd.profiler_util.FunctionEvent | None) -> str:
    while event is not None:
        for kind, parts in KINDS.items():
            if any(part in event.name for part in parts):
                return kind
        event = event.cpu_parent
    return "the rest"


def main() -> None:
    """Print the shares of the recipe that the command line names."""
    recipe = sys.argv[1]
    milliseconds, found = shares(recipe)
    print(f"{recipe}: {milliseconds:.0f} ms a step")
    for kind, share in found.items():
        print(f"  {kind:<26} {100 * share:5.1f} %")


if __name__ == "__main__":
    main()
