"""The table of timm's encoders that `miseg/networks/encoders/table.py` reads: each is built once, without memory.

python -m tests.measurements.encoders

Takes about half an hour on a core. Encoders that the table has already, of the same versions, are not built again.
"""

from __future__ import annotations

import argparse
from importlib import metadata
from typing import Any

import timm
import torch
import torch.nn.functional as F

from miseg.networks.encoders import table
from miseg.networks.encoders.probing import probe
from miseg.networks.encoders.table import STANDARDISATIONS, Encoder

PACKAGES = ("timm", "segmentation-models-pytorch")

SAME_SIZE = ("batch_norm", "layer_norm", "group_norm", "relu", "gelu", "silu", "hardswish", "softmax", "dropout")
"""Functions that leave a map's size as it is: they take most of the time on the meta device, and are left out."""

DRAWS = (
    *("normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_normal_"),
    *("xavier_uniform_", "orthogonal_", "zeros_", "ones_", "constant_"),
)
"""Functions of torch.nn.init, left out too: a tensor without memory has no values to draw."""

IN_PLACE = ("normal_", "uniform_", "zero_", "fill_", "erfinv_", "clamp_", "mul_", "add_")
"""Methods of a tensor by which timm draws values itself."""

UNFINISHED = "# unfinished "
"""Begins a table that lacks encoders: those are then built where they are asked for."""

OWN = [
    Encoder(f"mit_b{size}", "quarter", 32, "", (8, 16), {"imagenet": STANDARDISATIONS["imagenet"]}) for size in range(6)
]
"""segmentation-models-pytorch's own; tests/networks/encoders/test_table.py builds one at each output stride."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names of timm, in place of all")
    arguments = parser.parse_args()
    for owner, functions in ((F, SAME_SIZE), (torch.nn.init, DRAWS), (torch.Tensor, IN_PLACE)):
        for function in functions:
            setattr(owner, function, _same)
    torch.set_num_threads(1)
    versions = " ".join(f"{package}=={metadata.version(package)}" for package in PACKAGES)
    first = table.TABLE.read_text().partition("\n")[0] if table.TABLE.exists() else ""
    known = dict(table.encoders()) if first in (f"# {versions}", f"{UNFINISHED}{versions}") else {}
    known |= {encoder.name: encoder for encoder in OWN}
    names = arguments.only or timm.list_models()
    for number, name in enumerate(names, 1):
        if name in known:
            continue
        encoder = probe(name)
        assert encoder is not None, name
        known[name] = encoder
        print(f"{number}/{len(names)}\t{table.line(encoder)}", flush=True)
        # Not at the end alone: whoever stops it goes on from here.
        write(f"{UNFINISHED}{versions}", known)
    write(f"# {versions}" if known.keys() >= set(timm.list_models()) else f"{UNFINISHED}{versions}", known)


def write(header: str, known: dict[str, Encoder]) -> None:
    """The table of these encoders, sorted, so that its changes can be read."""
    lines = [table.line(known[key]) for key in sorted(known)]
    table.TABLE.write_text("\n".join([header, *lines]) + "\n")


def _same(values: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return values


if __name__ == "__main__":
    main()
