"""Encoders by timm's name: what each gives a decoder, known from a table without building one. No torch here.

The file `table.tsv` was measured (tests/measurements/encoders.py) with the versions that its first line names.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

Kind = Literal["halving", "quarter", "full", "plain", "none"]
"""Features that an encoder gives: maps at 1/2, 1/4 … 1/32 of the image (halving), the same from 1/4 (quarter) or from
1/1 (full); maps of one size from all its blocks, as a ViT does (plain); or none that a decoder here takes (none)."""

TABLE = Path(__file__).with_suffix(".tsv")

_DECLARATION = re.compile(r"^@register_model\ndef (\w+)\(", re.MULTILINE)
"""Declaration of an encoder in timm's source files."""

Colours = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of red, green and blue, for values in 0..1."""

STANDARDISATIONS: Mapping[str, Colours] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Names that the table has for the usual ones."""


@dataclass(frozen=True)
class Encoder:
    """An encoder as decoders and their settings see it."""

    name: str
    """timm's name without a tag, or mit_b0 … mit_b5, which are segmentation-models-pytorch's own."""
    kind: Kind
    multiple: int = 32
    """Pixels that both sides of an image must be a multiple of."""
    option: str = ""
    """Keyword of timm without which it takes images of one size alone; "": it needs none."""
    output_strides: tuple[int, ...] = ()
    """Output strides below 32 to which it can be dilated."""
    weights: Mapping[str, Colours] = field(default_factory=dict)
    """Tags of the weights on timm's hub -> their standardisation; the default first."""

    @property
    def own(self) -> bool:
        """Whether it is segmentation-models-pytorch's own rather than timm's."""
        return self.name.startswith("mit_b")


def find(name: str) -> Encoder:
    """The encoder of this name, which may end with the tag of its weights, as in resnet50.a1_in1k.

    Raises:
        ValueError: neither timm nor segmentation-models-pytorch has it; the message lists the nearest names.
    """
    stem, _, tag = name.partition(".")
    if not name.strip():
        raise ValueError(f"encoder = {name!r}: give a name of timm's, such as resnet34, or mit_b0")
    encoder = encoders().get(stem) or _not_in_table(stem)
    if encoder is None:
        nearest = ", ".join(_nearest(stem, sorted({*encoders(), *_names_of_timm()}))) or "resnet34, mit_b0"
        raise ValueError(f"encoder = {name!r}: there is no such encoder in timm; the nearest are {nearest}")
    if tag and tag not in encoder.weights:
        tags = ", ".join(f"{stem}.{other}" for other in encoder.weights) or "none"
        raise ValueError(f"encoder = {name!r}: there are no such weights of {stem}; there are {tags}")
    return encoder


def _nearest(name: str, known: Sequence[str]) -> list[str]:
    """Up to five names: those that begin with this one or hold it, and those that differ least from it."""
    typed = name.lower()
    close = difflib.get_close_matches(typed, known, n=5, cutoff=0.5)
    holding = sorted((other for other in known if typed in other), key=lambda other: (len(other), other))
    beginning = [other for other in holding if other.startswith(typed)]
    return list(dict.fromkeys([*beginning[:3], *close, *holding] if beginning else [*holding, *close]))[:5]


def standardisation(name: str) -> Colours:
    """Mean and deviation of red, green and blue that the weights of an encoder were trained with.

    Those of ImageNet where the encoder's weights have none of their own.
    """
    weights, tag = find(name).weights, name.partition(".")[2]
    return weights[tag] if tag else next(iter(weights.values()), STANDARDISATIONS["imagenet"])


@functools.cache
def encoders() -> dict[str, Encoder]:
    """Every encoder of the table by its name."""
    lines = TABLE.read_text().splitlines()
    return {encoder.name: encoder for encoder in map(_read, lines) if encoder is not None}


@functools.cache
def versions() -> dict[str, str]:
    """Versions of timm and segmentation-models-pytorch that the whole table was measured with; {}: it is a part."""
    first = TABLE.read_text().partition("\n")[0].removeprefix("# ")
    return dict(word.split("==") for word in first.split()) if not first.startswith("unfinished") else {}


def line(encoder: Encoder) -> str:
    """The table's line for an encoder."""
    names = {colours: name for name, colours in STANDARDISATIONS.items()}
    tags = [f"{tag}={names.get(colours) or _numbers(colours)}" for tag, colours in encoder.weights.items()]
    strides = ",".join(map(str, encoder.output_strides))
    return "\t".join((encoder.name, encoder.kind, str(encoder.multiple), encoder.option, strides, " ".join(tags)))


def _read(text: str) -> Encoder | None:
    if text.startswith("#"):
        return None
    name, kind, multiple, option, strides, tags = text.split("\t")
    weights = dict(tag.split("=") for tag in tags.split())
    return Encoder(
        name,
        kind,  # type: ignore[arg-type]
        int(multiple),
        option,
        tuple(map(int, strides.split(","))) if strides else (),
        {tag: STANDARDISATIONS.get(colours) or _colours(colours) for tag, colours in weights.items()},
    )


def _numbers(colours: Colours) -> str:
    return ",".join(f"{value!r}" for values in colours for value in values)


def _colours(text: str) -> Colours:
    values = tuple(map(float, text.split(",")))
    return values[: len(values) // 2], values[len(values) // 2 :]


@functools.cache
def _not_in_table(name: str) -> Encoder | None:
    """The encoder as it is found by building it, where the installed timm has one that the table lacks."""
    if name not in _names_of_timm():
        return None
    # Only here: it brings torch and timm along, which the table saves.
    return import_module("miseg.networks.encoders.probing").probe(name)


@functools.cache
def _names_of_timm() -> frozenset[str]:
    """Names of the encoders of the installed timm, as its source files declare them: nothing is imported."""
    timm = find_spec("timm")
    if timm is None or timm.origin is None:
        return frozenset()
    sources = (path.read_text(encoding="utf-8") for path in Path(timm.origin).parent.glob("models/*.py"))
    return frozenset(name for source in sources for name in _DECLARATION.findall(source))
