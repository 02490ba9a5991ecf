"""The one typed description of an experiment.

The command line, the search spaces, MLflow's parameters and the checkpoint all read these fields; nothing else says
what a run is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from miseg import plugins
from miseg.data.configs import Augmentation, Order, Pairs
from miseg.file_names import shown
from miseg.methods import registry as methods
from miseg.methods.configs import CrossEntropy, MethodConfig
from miseg.methods.registry import Supervision
from miseg.networks import registry as networks
from miseg.networks.configs import Network
from miseg.optimisation.configs import Optimiser
from miseg.settings import ADDED_LATER, as_before, check_choices, fits, hints_of

__all__ = ["LABELLED_PIXELS", "Experiment", "Optimiser", "from_dict", "to_dict"]

LABELLED_PIXELS = 50
"""Labelled pixels of each class that a few-label method is given where no label budget says otherwise."""


@dataclass(frozen=True)
class Experiment:
    """All that decides a run's result on given data. Two runs with one `id` are the same experiment."""

    method: MethodConfig = field(default_factory=CrossEntropy)
    data: str = "embedded"
    """Name of a data set (those of `miseg prepare-data`), or the folder or URI of a packed one."""
    optimiser: Optimiser = field(default_factory=Optimiser)
    augmentation: Augmentation = field(default_factory=Augmentation)
    pairs: Pairs = field(default_factory=Pairs)
    """Of the methods that learn from pairs of patches; others ignore it."""
    steps: int = 1000
    """Optimiser steps of the whole training."""
    batch_size: int = 8
    """Images a step, over all workers together."""
    accumulate: int = field(default=1, metadata=ADDED_LATER)
    """Equal parts into which each worker's share of a step's batch is cut, one after the other, so that memory holds
    the activations of one part; loss and gradient are the whole batch's, but batch norm sees a part at a time."""
    order: Order = "shuffle"
    """Manner of drawing training images."""
    label_budget: int | None = None
    """Number of labels: labelled training images, drawn by the seed (None: all); of a few-label method,
    labelled pixels of each class (None: 50)."""
    examples: Literal["date", "image"] = field(default="date", metadata=ADDED_LATER)
    """Origin of the labelled pixels that a few-label method is given in its validations: one date of the split, or the
    very image that is mapped, as Sanchez et al. draw them; others ignore it."""
    validate_every: int = 100
    """Steps between two validations (and checkpoints); the last step always has one."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic of the network; auto takes bfloat16 or float16 on a GPU that has it and float32 on a CPU."""
    non_finite: Literal["stop", "skip"] = field(default="stop", metadata=ADDED_LATER)
    """Treatment of a step whose loss or gradient is NaN or infinite: stop ends the training there; skip leaves
    weights and optimiser as they were and goes on, for at most 20 such steps in a row. skip reads from the device at
    every step."""
    compile: bool = field(default=False, metadata=ADDED_LATER)
    """Whether the networks are compiled for training (torch.compile), which takes a minute or so at the start; without
    a compiler on the machine training goes on without."""
    seed: int = 0
    """Seeds weights, order and augmentation alike."""

    def __post_init__(self) -> None:
        for part in (self, self.method, getattr(self.method, "network", None), self.augmentation):
            check_choices(part)
        for name in ("steps", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: use 1 or more")
        self.check_shares()
        if self.label_budget is not None and self.label_budget < 1:
            few = f"labelled pixels of each class, or leave it out for {LABELLED_PIXELS}"
            what = few if self.takes_labelled_pixels else "labelled images, or leave it out for all"
            raise ValueError(f"label_budget = {self.label_budget}: use 1 or more {what}")
        if self.seed < 0:
            raise ValueError(f"seed = {self.seed}: use 0 or more")
        check_size, crop = getattr(self.method, "check_size", None), self.training_size
        if check_size is not None and crop is not None:
            check_size(*crop)

    def check_shares(self, workers: int = 1) -> None:
        """Raise ValueError where a step's batch cannot be cut as `accumulate` and so many workers ask for."""
        if self.accumulate < 1:
            raise ValueError(f"accumulate = {self.accumulate}: use 1 (a step's batch is not cut) or more parts")
        among = f" on {workers} workers" if workers > 1 else ""
        if workers < 1 or self.batch_size % workers:
            raise ValueError(f"{workers} workers cannot share batches of {self.batch_size}: use a divisor of it")
        share = self.batch_size // workers
        if share % self.accumulate:
            parts = f"use a divisor of {share} (batch_size = {self.batch_size}{among})"
            raise ValueError(f"accumulate = {self.accumulate}: a step's batch is cut into equal parts; {parts}")
        multiple, kind = self.method.images_by, type(self.method).__name__
        if self.accumulate > 1 and multiple is None:
            raise ValueError(
                f"accumulate = {self.accumulate}: the loss of {kind} is one of the whole batch, not of its images; "
                "leave it out, and lower batch_size where memory is short"
            )
        if self.accumulate > 1 and multiple is not None and share // self.accumulate % multiple:
            raise ValueError(
                f"accumulate = {self.accumulate}: {kind} takes images by {multiple}, and batch_size = "
                f"{self.batch_size}{among} gives parts of {share // self.accumulate}"
            )

    @property
    def training_size(self) -> tuple[int, int] | None:
        """(height, width) of a training image where the description alone settles it."""
        if self.augmentation.crop is not None:
            return self.augmentation.crop
        resize = self.augmentation.resize
        return resize if isinstance(resize, tuple) and self.augmentation.scale is None else None

    @property
    def supervision(self) -> Supervision:
        """Labels that the method learns from."""
        return self.method.supervision

    @property
    def takes_labelled_pixels(self) -> bool:
        """Whether the method maps from a few labelled pixels that it is given after training."""
        return self.supervision == "few"

    @property
    def learns_from_pairs(self) -> bool:
        """Whether the method learns from pairs of patches, cut from scenes by `pairs`, rather than from images."""
        return self.method.learns_from_pairs

    @property
    def labelled_images(self) -> int | None:
        """Number of labelled training images; None: all, or a few-label method, whose training sees no label."""
        return None if self.takes_labelled_pixels else self.label_budget

    @property
    def labelled_pixels_per_class(self) -> int | None:
        """Number of labelled pixels of each class that a few-label method is given; None: the method takes none."""
        return (self.label_budget or LABELLED_PIXELS) if self.takes_labelled_pixels else None

    def with_labels(self, images: int | None = None, pixels_per_class: int | None = None) -> Experiment:
        """The experiment with a label budget that is named as what it counts; None leaves what it has.

        Raises:
            ValueError: labels that the method does not take, or fewer than 1.
        """
        kind = type(self.method).__name__
        if self.takes_labelled_pixels and images is not None:
            raise ValueError(f"labelled images = {images}: {kind} takes labelled pixels of each class")
        if not self.takes_labelled_pixels and pixels_per_class is not None:
            raise ValueError(f"labelled pixels per class = {pixels_per_class}: {kind} takes labelled images")
        budget = pixels_per_class if self.takes_labelled_pixels else images
        return self if budget is None else dataclasses.replace(self, label_budget=budget)

    @property
    def patch(self) -> int | None:
        """Side in pixels of the patches whose pairs the method learns from; None where it learns from images."""
        settings: Any = self.method
        return settings.encoder.patch if self.learns_from_pairs else None

    def validation_split(self, splits: Sequence[str]) -> str:
        """val; or train, where a data set has no val, for a method whose training sees no label of it."""
        return "train" if self.supervision != "dense" and "val" not in splits else "val"

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits: a hash of the fields that count, the same in all processes and on all machines."""
        counts = to_dict(self, later_defaults=False)
        if not self.learns_from_pairs:
            # A method that learns from images ignores it, and its earlier runs keep their ids.
            del counts["pairs"]
        text = json.dumps(counts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def to_dict(value: Any, *, later_defaults: bool = True) -> Any:
    """A description as plain JSON data; a dataclass that stands for one of several carries its `type`.

    Args:
        value: a dataclass, at any depth, or a tuple of them.
        later_defaults: whether fields that are marked `ADDED_LATER` are there while they hold their default.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind: type = type(value)
        values = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        if not later_defaults:
            values = {f.name: values[f.name] for f in dataclasses.fields(value) if not as_before(f, values[f.name])}
        data = {name: to_dict(item, later_defaults=later_defaults) for name, item in values.items()}
        # 1 and 1.0 are equal values: they must not make two experiments of one.
        data |= {
            name: _as_float(data[name]) for name, hint in hints_of(kind).items() if name in data and _is_real(hint)
        }
        return {"type": kind.__name__} | data
    if isinstance(value, (tuple, list)):
        return [to_dict(item, later_defaults=later_defaults) for item in value]
    return value


def from_dict(data: dict[str, Any], expected: Any = Experiment) -> Any:
    """The description that `to_dict` wrote.

    Raises:
        ValueError: an unknown type or field, or a value of another type or out of range; the message names it.
    """
    members = [kind for kind in _members(expected) if isinstance(kind, type)]
    kinds: dict[str, Any] = {kind.__name__: kind for kind in members if dataclasses.is_dataclass(kind)}
    name = data.get("type") if isinstance(data, dict) else data
    if not isinstance(data, dict) or not isinstance(name, str) or name not in kinds:
        left_out = "".join(f"; {reason}" for reason in plugins.reasons("miseg.methods", "miseg.networks"))
        what = f"one of {', '.join(sorted(kinds))}" if kinds else _text_of(expected)
        raise ValueError(f"type = {shown(name)}: expected {what}{left_out}")
    kind = kinds[name]
    hints = hints_of(kind)
    unknown = sorted(set(data) - set(hints) - {"type"})
    if unknown:
        raise ValueError(f"{name} has no field {', '.join(unknown)}; it has {', '.join(hints)}")
    values = {}
    for key, value in data.items():
        if isinstance(value, dict):
            values[key] = from_dict(value, hints[key])
        elif isinstance(value, list):
            item_type = _item_type(hints[key])
            values[key] = tuple(from_dict(v, item_type) if isinstance(v, dict) else v for v in value)
        elif key != "type":
            values[key] = value
    for key, value in values.items():
        if not fits(value, hints[key]):
            raise ValueError(f"{key} of {name} = {shown(value)}: expected {_text_of(hints[key])}")
    try:
        return kind(**values)
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"{name} cannot be made of these settings ({error})") from None


def _text_of(hint: Any) -> str:
    """An annotation in a message."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "").replace("miseg.", "")


def _is_real(hint: Any) -> bool:
    """Whether a field's annotation takes real numbers (or tuples of them, or None)."""
    arguments = typing.get_args(hint)
    return hint is float or any(map(_is_real, arguments))


def _as_float(data: Any) -> Any:
    if isinstance(data, list):
        return [_as_float(item) for item in data]
    return float(data) if isinstance(data, int) else data


def _item_type(hint: Any) -> Any:
    """Type of the items of a tuple in a field's annotation."""
    tuples = [member for member in _members(hint) if typing.get_origin(member) is tuple]
    return typing.get_args(tuples[0])[0] if tuples else None


def _members(expected: Any) -> tuple[Any, ...]:
    """The types that a field's annotation allows."""
    is_union = typing.get_origin(expected) in (typing.Union, types.UnionType)
    members: list[Any] = []
    for member in typing.get_args(expected) if is_union else (expected,):
        members += _REGISTERED[member]() if member in _REGISTERED else [member]
    return tuple(members)


_REGISTERED: dict[type, Callable[[], Iterable[type]]] = {MethodConfig: methods.registered, Network: networks.registered}
"""A class that stands for all that are registered below it -> those."""
