"""Mutual information of learned low-dimensional representations."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from miseg.information.neighbours import ksg
from miseg.information.results import Estimate, TracePoint
from miseg.information.trained.fitting import Fitting, fit, fitted, seeded, split

_REACH = 10.0
"""Standard deviations beyond which columns are cut before they train, as in the authors' package."""

_SLOPE = 0.2
"""Of the leaky ReLU below 0."""

_DROPOUT = 0.5
"""Share of inputs that each layer of a decoder from the other side leaves out."""


@dataclass(frozen=True)
class LatentFitting(Fitting):
    """Settings of `latent_mi`: `Fitting`'s, and those of the representations.

    Attributes:
        latent: columns of each representation, 1 or more.
        own: weight of the error of each side's reconstruction from its own representation, 0 or more.
        cross: weight of the error of its reconstruction from the other side's, 0 or more.
        neighbours: k of `ksg`.
    """

    learning_rate: float = 3e-3
    max_steps: int = 2000
    held_out: float = 0.5
    check_every: int = 25
    patience: int = 4
    latent: int = 8
    own: float = 1.0
    cross: float = 1.0
    neighbours: int = 3

    def __post_init__(self) -> None:
        for name in ("latent", "neighbours"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: use 1 or more")
        for name in ("own", "cross"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} = {getattr(self, name)}: use a weight of 0 or more, such as 1")
        super().__post_init__()


class _Autoencoders(nn.Module):
    """An encoder for each side, a decoder for each from its own representation and one from the other's."""

    def __init__(self, dims: tuple[int, int], latent: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        back = hidden[::-1]
        self.encoders = nn.ModuleList(
            nn.Sequential(_layers((columns, *hidden, latent)), nn.LeakyReLU(_SLOPE)) for columns in dims
        )
        self.own = nn.ModuleList(_layers((latent, *back, columns)) for columns in dims)
        self.crossed = nn.ModuleList(_layers((latent, *back, columns), _DROPOUT) for columns in dims)

    def encode(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Representations of x and of y, [B, latent] each."""
        x_BL, y_BL = (encoder(values) for encoder, values in zip(self.encoders, pair, strict=True))
        return x_BL, y_BL

    def errors(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean squared errors of both sides from their own and from the other's representation."""
        codes = self.encode(pair)
        own = [mse_loss(decoder(code), side) for decoder, code, side in zip(self.own, codes, pair, strict=True)]
        crossed = zip(self.crossed, codes[::-1], pair, strict=True)
        others = [mse_loss(decoder(code), side) for decoder, code, side in crossed]
        return own[0] + own[1], others[0] + others[1]


def _layers(widths: tuple[int, ...], dropout: float = 0.0) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        linear = nn.Linear(before, after)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [*([nn.Dropout(dropout)] if dropout else []), linear, nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*layers[:-1])


@fitted(LatentFitting)
def latent_mi(x_ND: np.ndarray, y_ND: np.ndarray, settings: LatentFitting) -> Estimate:
    """Latent MI: `ksg` of representations of a few columns, learned by predicting each side from either's.

    Gowri, Lun, Klein and Yin: Approximating mutual information of high-dimensional variables using learned
    representations, NeurIPS 2024 (arXiv:2409.02732). Two autoencoders are trained together, each side's representation
    to reconstruct its own side and the other's; nearest neighbours then count in the representations of the samples
    held out, half of all here as there. For many columns whose dependence has few dimensions.

    What a representation leaves out is lost: the information is that of the representations, at most that of x and y,
    but for the error of `ksg`. It learns what squared errors tell, so means: dependence in spread alone (Student-t, the
    cross of two Gaussians) it may miss. Where most columns are noise of their own, the learned ones hold that noise: of
    1.02 nats in 25 x 25 columns with two dependent pairs it found 0.04. Only the samples held out count, so that its
    spread is that of half the samples, and in few columns `ksg` itself is better. Columns beyond 10 standard deviations
    are cut there.

    The authors' package (latentmi 0.1.3) has `hidden=(1024, 512, 256)` and `learning_rate=1e-4` for up to 300 passes.
    The default here is smaller and faster.

    Args:
        x_ND: [N, Dx].
        y_ND: [N, Dy].

    The other arguments are those of `LatentFitting` and `fitting.Fitting`.

    Returns:
        nats; its trace has minus the loss as the objective, and as nats those at the end alone (0 before): a look costs
        no search for neighbours.

    Raises:
        TypeError, ValueError: samples that do not fit, too few to hold some out, or a setting out of range.
    """
    x_ND, y_ND = x_ND.clip(-_REACH, _REACH), y_ND.clip(-_REACH, _REACH)
    with seeded(settings.seed):
        trained, tested = split(x_ND, y_ND, settings)
        if len(tested[0]) <= settings.neighbours:
            raise ValueError(
                f"{len(x_ND)} samples of which {len(tested[0])} are held out: more than neighbours = "
                f"{settings.neighbours} are needed there"
            )
        dims = (x_ND.shape[1], y_ND.shape[1])
        coders = _Autoencoders(dims, settings.latent, settings.hidden).to(settings.device)

        def loss(x_BD: Tensor, y_BD: Tensor) -> Tensor:
            coders.train()
            own, crossed = coders.errors((x_BD, y_BD))
            return settings.own * own + settings.cross * crossed

        def look(step: int) -> TracePoint:
            coders.eval()
            own, crossed = coders.errors((tested[0], tested[1]))
            return TracePoint(step, -(settings.own * own + settings.cross * crossed).item(), 0.0)

        best, trace = fit(coders, loss, look, trained, settings)
        coders.eval()
        codes = [code.detach().cpu().numpy() for code in coders.encode((tested[0], tested[1]))]
    nats = ksg(*codes, neighbours=settings.neighbours, seed=settings.seed)
    return Estimate(float(nats), trace=trace, details={"step": best.step, "held_out": len(tested[0])})
