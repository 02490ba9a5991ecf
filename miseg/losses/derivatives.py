"""Losses whose gradient is written by hand: their second derivative is refused in words, and never silently zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def once_differentiable_in(tensor: Tensor) -> Tensor:
    """The tensor as it is; whoever differentiates a gradient with respect to it gets a RuntimeError.

    Made for the input of an autograd function that writes its own gradient. PyTorch's `once_differentiable` raises only
    where the gradient that comes in is differentiable itself. Of a loss that is minimised it is a number, and then the
    loss would be missing from a penalty on the gradient. To take the gradient alone, by `create_graph=True` too,
    raises nothing.
    """
    if not tensor.requires_grad:
        return tensor
    # Empty, so that it keeps no map alive, and yet known to come from the tensor.
    return _Guard.apply(tensor, tensor.flatten()[:0].clone())


class _Guard(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, trace: Tensor) -> Tensor:
        ctx.save_for_backward(trace)
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return (_Refusal.apply(gradient, *ctx.saved_tensors) if torch.is_grad_enabled() else gradient), None


class _Refusal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, trace: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise RuntimeError(
            "this loss has a first derivative only, so its gradient cannot be differentiated: take the gradient "
            "penalty from another loss, such as cross-entropy, or approximate it by finite differences"
        )
