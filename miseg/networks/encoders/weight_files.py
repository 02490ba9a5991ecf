"""An encoder's weights from a file: timm's names, or the same shapes in the same order under other names."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from miseg.networks.encoders.headers import WRAPPERS
from miseg.networks.encoders.sources import not_weights

PREFIXES = ("module.", "_orig_mod.", "model.", "encoder.", "backbone.")
"""Beginnings that wrappers add to every name: DataParallel, torch.compile, and networks around an encoder."""

LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
"""Ends of names that mean the same in every network of torch."""

COUNTER = "num_batches_tracked"
"""Counter of batches that old checkpoints lack, and that nothing here depends on."""

_UNREADABLE: tuple[type[Exception], ...] = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError),
    *(TypeError, ValueError, Warning, pickle.UnpicklingError),
)

Tensors = Mapping[str, Tensor]

Convert = Callable[[dict[str, Tensor]], Tensors]
"""Makes timm's names of those of the code that weights are from."""


@dataclass(frozen=True)
class FileOfWeights:
    """The tensors of a file in its order, without what wrappers put around them.

    Attributes:
        path: the file.
        tensors: by their names.
        ordered: whether the order is that of the network; safetensors sorts them.
    """

    path: Path
    tensors: Tensors
    ordered: bool


@dataclass(frozen=True)
class Fitted:
    """Weights by the names of an encoder, all that it has but counters, and a sentence on what they are."""

    tensors: Tensors
    sentence: str


def read(path: Path) -> FileOfWeights:
    """Read a file of weights as plain data: nothing in it is run.

    Raises:
        ValueError: it cannot be read, holds no tensors, or numbers that are none.
    """
    if reason := not_weights(path):
        raise ValueError(f"weights = {str(path)!r}: the file holds no weights that can be read ({reason})")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            content = _safe(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except _UNREADABLE as error:
        # Of a pickle with more than tensors torch advises to run what is in it: that advice goes to no user.
        code = "it holds more than tensors, and nothing in a file of weights is run: save the state_dict alone"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = code if isinstance(error, pickle.UnpicklingError) else reason
        raise ValueError(f"weights = {str(path)!r}: the file holds no weights that can be read ({reason})") from error
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    items = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): value for name, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"weights = {str(path)!r}: the file holds no tensors by name; give a network's state_dict")
    broken = next((name for name, value in tensors.items() if not bool(torch.isfinite(value).all())), None)
    if broken is not None:
        raise ValueError(
            f"weights = {str(path)!r}: tensor {broken} holds NaN or infinity, as a training that diverged leaves "
            "them: take an earlier checkpoint"
        )
    return FileOfWeights(path, tensors, path.suffix != ".safetensors")


def _safe(path: Path) -> Any:
    # Only here: timm brings it along, torch does not.
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def fit(
    file: FileOfWeights,
    whole: Tensors,
    needed: Sequence[str],
    convert: Convert | None,
    encoder: str,
) -> Fitted:
    """The weights by the encoder's names, where they are of this encoder.

    Names count first, then those that `convert` makes of them; where they do not agree, the order does, if every shape
    and the ends of all names (weight, bias, running_mean, …) agree.

    Args:
        file: what was read.
        whole: tensors of the classifier that the encoder is a part of, in its order; only shapes count.
        needed: names of `whole` that the encoder has; the others, such as the head, are left out.
        convert: None where timm has none for this encoder.
        encoder: its name, for messages.

    Raises:
        ValueError: the weights are of another network; the message says what differs.
    """
    body = {name: whole[name] for name in needed}
    named = _without_prefixes(file.tensors, body)
    converted = _converted(named, convert) if convert is not None else {}
    manners = {
        "by name": _of_names(named, body),
        "by name, converted by timm": _of_names(converted, body),
        "in order, for they have other names": _in_order(file, whole, body),
    }
    manner, chosen = next(((manner, tensors) for manner, tensors in manners.items() if tensors), ("", {}))
    if not chosen:
        raise ValueError(_differing(file, named, body, encoder))
    if further := _further_blocks(converted if "timm" in manner else named, whole, body):
        raise ValueError(
            f"weights = {str(file.path)!r}: the file holds all of {encoder} and more blocks of its stages, such as "
            f"{further[0]}, so it is of a deeper network: give that as the encoder, or weights of {encoder}"
        )
    used = {value.data_ptr() for value in chosen.values()}
    # A conversion may cut, join and resize: what of the file is in it cannot be said by its memory.
    left = [name for name, value in file.tensors.items() if value.data_ptr() not in used and "timm" not in manner]
    shown = ", ".join(left[:4]) + (f" and {len(left) - 4} more" if len(left) > 4 else "")
    sentence = f"{len(chosen)} of {len(file.tensors)} tensors of {file.path.name} are loaded into {encoder}, {manner}"
    return Fitted(chosen, f"{sentence}; left out: {shown}" if left else sentence)


def _of_names(named: Tensors, body: Tensors) -> dict[str, Tensor]:
    """The tensors of a body by name, where all are there in its shapes; else none."""
    fits = {name: named[name] for name in body if name in named and named[name].shape == body[name].shape}
    return fits if all(name in fits or name.endswith(COUNTER) for name in body) else {}


def _further_blocks(named: Tensors, whole: Tensors, body: Tensors) -> list[str]:
    """Names of tensors that are none of the classifier's, but in its numbered stages: those of a deeper sibling."""
    stages = {stage for name in body if (stage := _stage(name))}
    return [name for name in named if name not in whole and _stage(name) in stages]


def _stage(name: str) -> str:
    """Name of the numbered stage that a tensor lies in: `layer1` of `layer1.2.conv1.weight`; "" where it is in none."""
    parts = name.split(".")
    number = next((index for index, part in enumerate(parts) if part.isdigit()), 0)
    return ".".join(parts[:number])


def _in_order(file: FileOfWeights, whole: Tensors, body: Tensors) -> dict[str, Tensor]:
    """The tensors by the names of those in whose places they stand, where these agree.

    A checkpoint has the head or not, and the counters of batches or not.
    """
    if not file.ordered:
        return {}
    counted = any(name.endswith(COUNTER) for name in file.tensors)
    for names in (list(whole), list(body)):
        places = [name for name in names if counted or not name.endswith(COUNTER)]
        if len(places) == len(file.tensors):
            pairs = list(zip(places, file.tensors.items(), strict=True))
            if all(
                _alike(name, other) and (name not in body or value.shape == body[name].shape)
                for name, (other, value) in pairs
            ):
                return {name: value for name, (_, value) in pairs if name in body}
    return {}


def _alike(name: str, other: str) -> bool:
    """Whether two names end alike, or in words that are a network's own."""
    ends = name.rpartition(".")[2], other.rpartition(".")[2]
    return ends[0] == ends[1] or not (ends[0] in LEAVES or ends[1] in LEAVES)


def _without_prefixes(tensors: Tensors, body: Tensors) -> Tensors:
    """The tensors with the beginnings taken off that wrappers added, as far as more names agree then."""
    best = current = dict(tensors)
    for _ in range(3):
        prefix = next((p for p in PREFIXES if any(name.startswith(p) for name in current)), None)
        if prefix is None:
            break
        current = {name.removeprefix(prefix): value for name, value in current.items() if name.startswith(prefix)}
        if len(current.keys() & body.keys()) > len(best.keys() & body.keys()):
            best = current
    return best


def _converted(named: Tensors, convert: Convert) -> Tensors:
    try:
        return convert(dict(named))
    except Exception:  # it is written for the weights of one code, and these may be anything
        return {}


def _differing(file: FileOfWeights, named: Tensors, body: Tensors, encoder: str) -> str:
    """One sentence on weights that do not fit."""
    shapes = [name for name in body if name in named and named[name].shape != body[name].shape]
    missing = [name for name in body if name not in named and not name.endswith(COUNTER)]
    reason = f"it holds {len(file.tensors)} tensors, {encoder} has {len(body)}"
    if shapes:
        name = shapes[0]
        reason = f"{name} is {tuple(named[name].shape)} in place of {tuple(body[name].shape)}"
    elif 0 < len(missing) < len(body) / 2:
        reason = f"{len(missing)} of its {len(body)} tensors are not in it, {missing[0]} among them"
    return f"weights = {str(file.path)!r}: the file does not hold timm's weights for {encoder} ({reason})"
