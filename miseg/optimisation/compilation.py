"""Networks compiled by torch.compile, in place: names and shapes of their weights stay as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


def compile_networks(method: nn.Module, device: torch.device) -> str:
    """Compile the forward and backward passes of a method's networks; why that cannot be done here, or "".

    What a method computes around its networks stays as it is written. Code is generated at the first call.
    """
    # Trials that follow one another in a process share a limit of 8 versions of one function; past it torch goes on
    # with nothing compiled, in a line of its log.
    torch.compiler.reset()
    reason = _no_compiler(device)
    if not reason:
        for network in networks_of(method):
            network.compile()
    return reason


def networks_of(module: nn.Module) -> Iterator[nn.Module]:
    """The modules right below, through the lists that hold several."""
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from networks_of(child)
        else:
            yield child


def _no_compiler(device: torch.device) -> str:
    """First line of what a function of one tensor cannot be compiled for; "" where it can."""
    # Compiled code keeps its generator's settings; only here is it tried, so that a run never ends for want of it.
    try:
        values = torch.ones(4, device=device, requires_grad=True)
        torch.compile(_tried)(values).backward()
    except Exception as error:
        return next((line for line in str(error).splitlines() if line.strip()), repr(error))
    return ""


def _tried(values: torch.Tensor) -> torch.Tensor:
    return (values.sin() * 2).sum()


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """Compiled networks run as they are written: other sizes and modes would be compiled for anew."""
    with torch.compiler.set_stance("force_eager"):
        yield
