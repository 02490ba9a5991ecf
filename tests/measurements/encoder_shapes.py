"""The table of the encoders' shapes that `miseg/networks/encoders/shapes.py` reads: each is built without memory.

    python -m tests.measurements.encoder_shapes

Takes minutes on a core. Encoders that the table has already, of the same versions, are not built again.
"""

from __future__ import annotations

import argparse
import time
from importlib import metadata
from typing import Any

import torch

from miseg.networks.encoders import shapes, table
from miseg.networks.encoders.shapes import EncoderShapes, mask_of
from miseg.networks.encoders.timm_weights import tensors_of
from miseg.networks.encoders.weight_files import COUNTER
from tests.measurements.encoders import DRAWS, IN_PLACE, PACKAGES, _same


def measure(name: str) -> EncoderShapes:
    """The shapes of an encoder of the table."""
    whole, needed, convert = tensors_of(name, table.find(name))
    body = [whole[tensor].shape for tensor in needed if not tensor.endswith(COUNTER)]
    values = sum(shape.numel() for shape in body)
    return EncoderShapes(values, mask_of([tuple(shape) for shape in body]) if convert is None else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names, in place of all that a decoder takes")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so many")
    arguments = parser.parse_args()
    # A tensor without memory has no values to draw.
    for owner, functions in ((torch.nn.init, DRAWS), (torch.Tensor, IN_PLACE)):
        for function in functions:
            setattr(owner, function, _same)
    torch.set_num_threads(1)
    header = "# " + " ".join(f"{package}=={metadata.version(package)}" for package in PACKAGES)
    known: dict[str, Any] = {}
    if shapes.TABLE.exists() and shapes.TABLE.read_text().startswith(header):
        known = dict(shapes.encoders())
    usual = [name for name in table.encoders() if table.encoders()[name].kind != "none"]
    until = time.monotonic() + arguments.seconds
    for name in arguments.only or usual:
        if name in known:
            continue
        if time.monotonic() > until:
            break
        known[name] = measure(name)
        if len(known) % 50 == 0:
            write(header, known)
    write(header, known)
    print(f"{len(known)} of {len(usual)} encoders")


def write(header: str, known: dict[str, EncoderShapes]) -> None:
    """The table of these encoders, sorted, so that its changes can be read."""
    lines = [shapes.line(name, known[name]) for name in sorted(known)]
    shapes.TABLE.write_text("\n".join([header, *lines]) + "\n")


if __name__ == "__main__":
    main()
