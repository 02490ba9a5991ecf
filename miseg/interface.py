"""The contracts between methods, data sets and trainers.

This module imports torch and nothing of miseg: a method written against it trains in a plain loop, in Ray Train and in
a test without a change.

Shape suffixes: N images, C channels, K classes, H and W pixels, T terms of a loss.
"""

from __future__ import annotations

import contextlib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

IGNORE_INDEX = 255
"""The one label value that losses and metrics leave out; readers map every data set's own value to it."""


@dataclass(frozen=True)
class Task:
    """Classes and channels of a segmentation task.

    Attributes:
        num_classes: number of classes K, at least 2; 0 where the images have no labels.
        in_channels: channels C of an image, at least 1.
        class_names: K names in label order.
        ignore_index: label value of pixels that count nowhere.
    """

    num_classes: int
    in_channels: int = 3
    class_names: tuple[str, ...] = ()
    ignore_index: int = IGNORE_INDEX

    def __post_init__(self) -> None:
        if self.num_classes != 0 and self.num_classes < 2:
            raise ValueError(f"num_classes = {self.num_classes}: a segmentation task has at least 2 classes")
        if self.in_channels < 1:
            raise ValueError(f"in_channels = {self.in_channels}: an image has at least 1 channel")
        if self.class_names and len(self.class_names) != self.num_classes:
            raise ValueError(f"{len(self.class_names)} class names for {self.num_classes} classes")


@dataclass
class Batch:
    """Images with their labels, as the trainer hands them to a method.

    Attributes:
        images_NCHW: float32, standardised.
        labels_NHW: int64 in 0..K-1 or the ignore index; None where the method may see no labels.
        ids: the N names under which the packed data set holds the images.
        views_NCHW: a second view of each image, float32, for the methods that learn from pairs.
        valid_NHW: bool, the pixels that count, for a method that sees no labels; None: all.
        masked_N: bool, which images have a mask (the labels of others all hold the ignore index); None: all.
        groups: the N places or clips that the images show, "" where that is not known; (): of none.
    """

    images_NCHW: Tensor
    labels_NHW: Tensor | None = None
    ids: tuple[str, ...] = ()
    views_NCHW: Tensor | None = None
    valid_NHW: Tensor | None = None
    masked_N: Tensor | None = None
    groups: tuple[str, ...] = ()

    def to(self, device: torch.device | str, *, memory_format: torch.memory_format = torch.contiguous_format) -> Batch:
        """The same batch on `device`, images in `memory_format`."""

        def moved(images_NCHW: Tensor) -> Tensor:
            return images_NCHW.to(device, non_blocking=True, memory_format=memory_format)

        return Batch(
            moved(self.images_NCHW),
            None if self.labels_NHW is None else self.labels_NHW.to(device, non_blocking=True),
            self.ids,
            None if self.views_NCHW is None else moved(self.views_NCHW),
            None if self.valid_NHW is None else self.valid_NHW.to(device, non_blocking=True),
            None if self.masked_N is None else self.masked_N.to(device, non_blocking=True),
            self.groups,
        )

    def parts(self, number: int) -> list[Batch]:
        """The batch cut into `number` parts, equal but for the last ones, in the order of its images."""
        if number == 1:
            return [self]
        size = -(-len(self.images_NCHW) // number)
        cuts = [slice(start, start + size) for start in range(0, len(self.images_NCHW), size)]

        def cut(value: Any, part: slice) -> Any:
            return None if value is None else value[part]

        return [Batch(**{name: cut(value, part) for name, value in vars(self).items()}) for part in cuts]

    def without_labels(self, ignore_index: int = IGNORE_INDEX) -> Batch:
        """The batch as an unsupervised method sees it: which pixels have a label (without a mask, all), not which."""
        if self.labels_NHW is None:
            return self
        valid_NHW = self.labels_NHW != ignore_index
        if self.masked_N is not None:
            valid_NHW = valid_NHW | ~self.masked_N[:, None, None]
        return replace(self, labels_NHW=None, valid_NHW=valid_NHW)

    def names(self) -> tuple[str, ...]:
        """The ids, by which draws are made; of images without, a digest of their pixels."""
        if self.ids:
            return self.ids
        pixels = (image_CHW.float().contiguous().cpu().numpy().tobytes() for image_CHW in self.images_NCHW)
        return tuple(hashlib.sha256(values).hexdigest() for values in pixels)


@dataclass
class Step:
    """One training step's loss, kept as sums so that ranks add up.

    The loss is `(total / count).sum()` where `total` and `count` are first summed over ranks. A loss whose parts have
    different denominators (pixels, images) gives one entry a part.

    Attributes:
        total: float [T], differentiable sums over this rank's batch.
        count: float [T], how many things each total sums over; no gradient, may be 0 where the total is 0.
        scalars: further detached values to log, averaged over ranks.
    """

    total: Tensor
    count: Tensor
    scalars: dict[str, Tensor] = field(default_factory=dict)

    def loss(self) -> Tensor:
        """The scalar loss of this rank alone: what a plain loop minimises."""
        return combine(self.total, self.count)


def combine(total: Tensor, count: Tensor) -> Tensor:
    """Σ total / count over the terms, 0 for a term that counted nothing."""
    return torch.where(count > 0, total / count.clamp_min(torch.finfo(total.dtype).tiny), total).sum()


def lot(*names: str) -> int:
    """A number in 0..2^63 − 1 that the names draw: the same wherever and in whatever order they come."""
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextlib.contextmanager
def drawn_by(device: torch.device, *names: str) -> Iterator[None]:
    """Random numbers of torch that the names alone decide, inside; the random state is then as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(lot(*names))
        yield


class HeldOut:
    """A method's loss on images that it does not learn from.

    It depends on the images and on nothing else: not on their order, their batches or the ranks that share them. This
    one takes the training loss of each image by itself, and what that draws is drawn by the image's id. A method whose
    loss compares images, or counts pixels over all of them, has a `HeldOut` of its own.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.total = self.count = torch.zeros((), dtype=torch.float64)

    def update(self, batch: Batch) -> None:
        """Add images, which are on the method's device."""
        for image, name in zip(batch.parts(len(batch.images_NCHW)), batch.names(), strict=True):
            with drawn_by(batch.images_NCHW.device, name):
                self.add(self.method(image))

    def add(self, step: Step) -> None:
        """Add the sums and counts of images."""
        self.total, self.count = (
            mine + more.detach().cpu().double() for mine, more in ((self.total, step.total), (self.count, step.count))
        )

    def loss(self, gather: Callable[[Any], list[Any]] = lambda value: [value]) -> float:
        """The loss over the images of all ranks; 0 where nothing counts.

        Args:
            gather: takes a value of this rank to those of all ranks, in their order; every rank calls as often.
        """
        sums = gather((self.total, self.count))
        # A rank without an image does not know how many terms the loss has.
        total, count = (sum(values[1:], values[0]) for values in zip(*sums, strict=True))
        return combine(total, count).item()


class Method(nn.Module, ABC):
    """One row of the results table: a network (or several) with the way it learns.

    `METHODS` builds it as `cls(config, task)`. Training calls the module itself, because DistributedDataParallel
    synchronises gradients only through `forward`.
    """

    supervision: ClassVar[Literal["dense", "few", "none"]]
    """The labels that training may see; for "none" the trainer strips them from every batch."""

    emits: ClassVar[Literal["classes", "clusters"]]
    """Whether `predict`'s channels are the task's classes, or clusters that evaluation matches to classes."""

    pairs: ClassVar[bool] = False
    """Whether `forward` takes two views of each image: patches of the same place."""

    num_clusters: int = 0
    """Channels of `predict` where the method emits clusters."""

    progress: float = 0.0
    """Share of the training steps done, 0..1, for losses that change with it; the trainer sets it before each step."""

    micro_batches: int = 1
    """Parts into which this rank's share of a step's batch is cut, each a call of `forward`; the trainer sets it."""

    @abstractmethod
    def forward(self, batch: Batch) -> Step:
        """The training loss of one batch."""

    def counts(self, batch: Batch) -> Tensor | None:
        """`Step.count` as `forward` gives it, from the batch alone; None, the default: it takes a forward pass.

        A step whose batch is cut into parts divides each part's sums by the whole batch's counts, and so needs these
        first. Where this gives None a pass without gradient comes before the one that learns.
        """
        return None

    def held_out(self) -> HeldOut:
        """Sum of this method's loss on held-out images, to be used in evaluation mode: see `HeldOut`."""
        return HeldOut(self)

    @abstractmethod
    def predict(self, images_NCHW: Tensor) -> Tensor:
        """Probabilities [N, K, H, W] (each in 0..1) at input resolution."""

    def others(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Further predictors like `predict`, by name, that evaluation scores beside it; most methods have none."""
        return {}

    def fit_support(self, labels: Iterable[Batch]) -> None:
        """Fit the parts that have a closed form, after training; most methods have none.

        A method of supervision "few" is given its labelled pixels; one of "none", the training images without labels.
        """

    def param_groups(self, lr: float) -> list[dict]:
        """Optimiser groups: those of the method's networks that have some of their own, and one at `lr` for the rest.

        The gradient's norm is clipped over all groups that have the same value under `clip`, or none, together.
        """
        groups: list[dict] = []
        for child in self.children():
            own: Any = getattr(child, "param_groups", None)
            groups += own(lr) if own is not None else []
        grouped = {id(parameter) for group in groups for parameter in group["params"]}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in grouped]
        return [*groups, {"params": rest, "lr": lr}] if rest else groups
