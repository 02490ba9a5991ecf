"""Networks that score how well an x and a y belong together."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn


def perceptron(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers of these widths, the input's first, with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class JointCritic(nn.Module):
    """T(x, y): one network on x and y together.

    Args:
        dims: (Dx, Dy).
        hidden: widths of the hidden layers, at least one.
    """

    def __init__(self, dims: tuple[int, int], hidden: tuple[int, ...]) -> None:
        super().__init__()
        # The first layer is a sum over x and y, so that of all pairings it is computed once a sample, not once a pair.
        self.first_x = nn.Linear(dims[0], hidden[0])
        self.first_y = nn.Linear(dims[1], hidden[0], bias=False)
        self.rest = nn.Sequential(nn.ReLU(), perceptron((*hidden, 1)))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores of broadcast pairs [..., Dx] and [..., Dy], without the last axis."""
        return self.rest(self.first_x(x) + self.first_y(y)).squeeze(-1)


class SeparableCritic(nn.Module):
    """T(x, y) = f(x)·g(y) / √E: two networks with E outputs each, E the last hidden width. Arguments: `JointCritic`."""

    def __init__(self, dims: tuple[int, int], hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.of_x = perceptron((dims[0], *hidden, hidden[-1]))
        self.of_y = perceptron((dims[1], *hidden, hidden[-1]))
        self.scale = 1 / math.sqrt(hidden[-1])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores of broadcast pairs [..., Dx] and [..., Dy], without the last axis."""
        return self.scale * (self.of_x(x) * self.of_y(y)).sum(-1)
