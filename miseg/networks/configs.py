"""Settings of the networks. No torch here: a command line's --help must not wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class UNet:
    """The U-Net of Buda, Saha and Mazurowski (2019): four halvings, transposed convolutions, logits out."""

    initial_features: int = 32
    """Feature maps at full resolution; each of the four halvings doubles them."""
    normalisation: Literal["batch", "group"] = "batch"
    """Batch norm as published; group norm where a worker's batch is small or ranks must agree exactly."""

    def __post_init__(self) -> None:
        if self.initial_features < 1:
            raise ValueError(f"initial_features = {self.initial_features}: use 1 or more (published: 32)")


Network = UNet
"""Every network a method may be built on."""
