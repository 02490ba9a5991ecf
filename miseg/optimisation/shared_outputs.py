"""Outputs of networks that are asked for the same images more than once, such as for a prediction and for its loss."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from miseg.optimisation.compilation import networks_of


@contextlib.contextmanager
def shared_outputs(method: nn.Module) -> Iterator[Callable[[], None]]:
    """Let a method's networks compute once for each tensor inside, in evaluation mode and without gradient.

    Gives a function that forgets the outputs, to be called before each batch. Calls with anything but one tensor are
    computed as ever.
    """
    outputs: dict[tuple[int, int], tuple[Tensor, Any]] = {}

    def once(network: nn.Module) -> Callable[..., Any]:
        compute = network.forward

        def forward(*args: Any, **settings: Any) -> Any:
            if settings or len(args) != 1 or not isinstance(args[0], Tensor):
                return compute(*args, **settings)
            key = id(network), id(args[0])
            if key not in outputs:
                # With the tensor itself, so that no other one gets its identity meanwhile.
                outputs[key] = args[0], compute(args[0])
            return outputs[key][1]

        return forward

    networks = list(networks_of(method))
    own = [network.__dict__.get("forward") for network in networks]
    try:
        for network in networks:
            network.forward = once(network)
        yield outputs.clear
    finally:
        for network, before in zip(networks, own, strict=True):
            if before is None:
                del network.forward
            else:
                network.forward = before
