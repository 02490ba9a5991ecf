"""Networks on patches: an encoder, and statistics networks that score what was encoded.

Sanchez, Serrurier and Ortner do not print their layer sizes; ours are documented here and are settings. Every layer is
written so that it also runs over a whole image at once: a patch's result is then one pixel of a map.

Shape suffixes: N patches or images, B bands, F features, Z the representation, D hidden units, P and p the sides of a
patch and of its local map (p = P − 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu, softplus
from torch.nn.utils.fusion import fuse_conv_bn_eval

from miseg.networks.configs import PatchEncoder as PatchEncoderConfig

TILE = 4096
"""Windows that one thread scores at once: few enough to stay in a core's cache, enough to hide what a call costs."""
SCORED = 512
"""Windows of labelled patches that a tile meets at once: more hide what a call costs, fewer stay in the cache."""
FACTORS = 16
"""Factors 1 + e^T of a product: in single precision the mean of softplus(T) over them may be up to 5.5."""


class PatchEncoder(nn.Module):
    """From patches [N, B, P, P] to local maps [N, F, p, p] and representations [N, Z].

    conv 3x3 (B -> F1), norm, ReLU, conv 3x3 (F1 -> F), norm, ReLU: the local map; a dense layer on the flattened map
    gives the representation.
    """

    def __init__(self, config: PatchEncoderConfig, in_channels: int) -> None:
        super().__init__()
        first, second = config.features
        self.config = config
        bias = config.normalisation == "none"
        self.conv1, self.norm1 = nn.Conv2d(in_channels, first, 3, bias=bias), _norm(config, first)
        self.conv2, self.norm2 = nn.Conv2d(first, second, 3, bias=bias), _norm(config, second)
        self.dense = nn.Conv2d(second, config.representation, config.local_size)

    def forward(self, patches_NBPP: Tensor) -> tuple[Tensor, Tensor]:
        """Local maps and representations of patches of the configured size.

        Raises:
            ValueError: patches of another size.
        """
        if patches_NBPP.shape[-2:] != (self.config.patch, self.config.patch):
            height, width = patches_NBPP.shape[-2:]
            raise ValueError(f"patches of {height} x {width} pixels: this encoder takes {self.config.patch} a side")
        local = relu(self.norm1(self.conv1(patches_NBPP)))
        local = relu(self.norm2(self.conv2(local)))
        return local, self.dense(local).flatten(1)

    def maps(self, images_NBHW: Tensor) -> tuple[Tensor, Tensor]:
        """The local map [N, F, H − 4, W − 4] and the representations [N, Z, H − P + 1, W − P + 1] of whole images.

        What `forward` gives for the patch whose upper left pixel is (row, column), in evaluation mode, is the local
        map's window of p x p pixels and the representation's pixel there. Batch norm is folded into the convolutions.
        """
        local = self.local_map(images_NBHW)
        return local, self.dense(local)

    def local_map(self, images_NBHW: Tensor) -> Tensor:
        """The local map alone: the representations are most of the work."""
        # Channels last is what oneDNN computes in: measured 2 times faster, with the layers that follow.
        local = images_NBHW.contiguous(memory_format=torch.channels_last)
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            folded = fuse_conv_bn_eval(conv, norm) if isinstance(norm, nn.BatchNorm2d) else conv
            local = relu(folded(local), inplace=True)
        return local


class PatchDecoder(nn.Module):
    """From representations [N, Z] to patches [N, B, P, P]: the encoder's layers reversed, transposed, without norm."""

    def __init__(self, config: PatchEncoderConfig, out_channels: int) -> None:
        super().__init__()
        first, second = config.features
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(config.representation, second, config.local_size),
            nn.ReLU(),
            nn.ConvTranspose2d(second, first, 3),
            nn.ReLU(),
            nn.ConvTranspose2d(first, out_channels, 3),
        )

    def forward(self, representation_NZ: Tensor) -> Tensor:
        """The patches that the representations stand for."""
        return self.layers(representation_NZ[:, :, None, None])


class StatisticsNetwork(nn.Module):
    """Scores how much a patch's local map and a representation belong together.

    "concatenate": [window, z] -> D, ReLU, D -> D, ReLU, D -> 1. The first layer is a sum of a part for the window and a
    part for z, so that over an image each is computed once. "dot": the inner product of encodings, window -> D, ReLU,
    D -> D and z -> D, ReLU, D -> D, over the root of D.

    Args:
        features: F of the local map.
        window: pixels of the side of the local map's window that is scored: 1 for a local network, p for a global one.
        representation: Z.
        hidden: D.
        discriminator: which of the two.
    """

    def __init__(
        self,
        features: int,
        window: int,
        representation: int,
        hidden: int,
        discriminator: Literal["concatenate", "dot"] = "concatenate",
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.of_window: nn.Module = nn.Conv2d(features, hidden, window)
        self.of_representation: nn.Module = nn.Linear(representation, hidden, bias=discriminator == "dot")
        if discriminator == "concatenate":
            self.head = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        else:
            self.of_window = nn.Sequential(self.of_window, nn.ReLU(), nn.Conv2d(hidden, hidden, 1))
            self.of_representation = nn.Sequential(self.of_representation, nn.ReLU(), nn.Linear(hidden, hidden))

    def forward(self, local_NFhw: Tensor, representation_NZ: Tensor) -> Tensor:
        """Scores [N, h', w'] of every window of each local map with the representation of the same index."""
        windows = self.of_window(local_NFhw).movedim(1, -1)
        return self.score(windows, self.of_representation(representation_NZ)[:, None, None])

    def score(self, windows_D: Tensor, representations_D: Tensor) -> Tensor:
        """Scores [...] of what `of_window` [..., D] and `of_representation` [..., D] gave, which broadcast."""
        if self.discriminator == "dot":
            return (windows_D * representations_D).sum(-1) / windows_D.shape[-1] ** 0.5
        return self.head(windows_D + representations_D)[..., 0]

    @torch.no_grad()
    def score_each(self, windows_ND: Tensor, representations_LZ: Tensor) -> Tensor:
        """Scores [L, N] of each of N windows, as `of_window` gave them, with each of L representations; no gradient.

        What `score` gives for all pairs, in the weights' precision, under autocast too. ReLU(x + z) = max(x, −z) + z:
        the part that is added is the same for all windows, and becomes a part of the next layer's bias. So between
        the layers' products there is nothing but a maximum, and no memory is touched that a core's cache does not hold.
        """
        with torch.autocast(windows_ND.device.type, enabled=False):
            representations_LD = self.of_representation(representations_LZ.to(self._weight_type))
            windows_ND = windows_ND.to(representations_LD.dtype)
            if self.discriminator == "dot":
                return representations_LD @ windows_ND.T / windows_ND.shape[1] ** 0.5
            floors, added_L1 = self._floors(representations_LD)
            scores_LN = windows_ND.new_empty(len(floors), len(windows_ND))
            step = 0
            for tile_TDn in _tiles(windows_ND):
                tile_scores_Ln = self._score_tile(tile_TDn, floors)
                part_Ln = scores_LN[:, step : step + tile_scores_Ln.shape[1]]
                torch.add(tile_scores_Ln[:, : part_Ln.shape[1]], added_L1, out=part_Ln)
                step += tile_scores_Ln.shape[1]
            return scores_LN

    @torch.no_grad()
    def softplus_each(self, representations_ND: Tensor, windows_LPD: Tensor) -> Tensor:
        """Means [L, N] over P windows of softplus(T), for each of L patches and each of N representations; no gradient.

        Both as `of_window` and `of_representation` gave them. What `score` and softplus give for all pairs, in the
        weights' precision; a tile's scores are summed before the next one's are computed, for all are P times as many.
        """
        with torch.autocast(representations_ND.device.type, enabled=False):
            windows_LPD = windows_LPD.to(self._weight_type)
            representations_ND = representations_ND.to(self._weight_type)
            patch = windows_LPD.shape[1]
            if self.discriminator == "dot":
                labels, scores_of = max(1, SCORED // patch), self._inner_products(windows_LPD)
            else:
                labels, scores_of = 1, self._scores_by_head(windows_LPD)
            means_LN = windows_LPD.new_empty(len(windows_LPD), len(representations_ND))
            step = 0
            for tile_TDn in _tiles(representations_ND, TILE // 4):
                part_Ln = means_LN[:, step : step + tile_TDn.shape[0] * tile_TDn.shape[2]]
                for first in range(0, len(windows_LPD), labels):
                    scores_TlPn = scores_of(tile_TDn, slice(first, first + labels))
                    means_lN = _means_of_softplus_(scores_TlPn).transpose(0, 1).flatten(1)
                    part_Ln[first : first + labels] = means_lN[:, : part_Ln.shape[1]]
                step += part_Ln.shape[1]
            # A product that left the range of its type: few pairs, if any, whose softplus is taken one by one.
            for label in means_LN.amax(1).isinf().nonzero().flatten().tolist():
                for some in means_LN[label].isinf().nonzero().flatten().split(TILE // 16):
                    scores_nP = self.score(windows_LPD[label], representations_ND[some, None])
                    means_LN[label, some] = softplus(scores_nP).mean(1)
            return means_LN

    def _inner_products(self, windows_LPD: Tensor) -> Callable[[Tensor, slice], Tensor]:
        scaled_LPD = windows_LPD.contiguous() / windows_LPD.shape[2] ** 0.5
        patch = windows_LPD.shape[1]
        memory = windows_LPD.new_empty(0)

        def scores(tile_TDn: Tensor, labels: slice) -> Tensor:
            nonlocal memory
            threads, _, width = tile_TDn.shape
            of_labels_kD = scaled_LPD[labels].flatten(0, 1)
            size = threads * len(of_labels_kD) * width
            if len(memory) < size:
                memory = tile_TDn.new_empty(size)  # the same for every tile, so that the cache holds it
            scores_Tkn = memory[:size].view(threads, -1, width)
            torch.bmm(of_labels_kD.expand(threads, -1, -1), tile_TDn, out=scores_Tkn)
            return scores_Tkn.unflatten(1, (-1, patch))

        return scores

    def _scores_by_head(self, windows_LPD: Tensor) -> Callable[[Tensor, slice], Tensor]:
        floors, added = self._floors(windows_LPD.flatten(0, 1))
        patch = windows_LPD.shape[1]

        def scores(tile_TDn: Tensor, labels: slice) -> Tensor:
            windows = slice(labels.start * patch, labels.stop * patch)
            return self._score_tile(tile_TDn, floors[windows]).add_(added[windows])[None].unflatten(1, (-1, patch))

        return scores

    def _floors(self, few_LD: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Of the few that meet many: the floors of both ReLUs, and what is added to all their scores, [L, 1]."""
        _, inner, _, outer = self.head
        biases_LD = inner(few_LD)
        return list(zip(-few_LD[:, :, None], -biases_LD[:, :, None], strict=True)), outer(biases_LD)

    def _score_tile(self, tile_TDn: Tensor, floors: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Scores [L, T · n] less what does not depend on the windows; `floors` [D, 1] are those of the two ReLUs."""
        threads, _, width = tile_TDn.shape
        inner, outer = (x.weight.expand(threads, -1, -1) for x in self.head if isinstance(x, nn.Linear))
        first, second = torch.empty_like(tile_TDn), torch.empty_like(tile_TDn)
        scores = tile_TDn.new_empty(len(floors), threads, 1, width)
        for (of_first, of_second), scores_T1n in zip(floors, scores, strict=True):
            torch.maximum(tile_TDn, of_first, out=first)
            torch.bmm(inner, first, out=second)
            torch.maximum(second, of_second, out=second)
            torch.bmm(outer, second, out=scores_T1n)
        return scores.flatten(1)

    @property
    def _weight_type(self) -> torch.dtype:
        return next(self.parameters()).dtype


def _tiles(windows_ND: Tensor, size: int = TILE) -> Iterator[Tensor]:
    """The windows as [T, D, n], T tiles of `size` at a time, a thread's each; zeros fill the last up."""
    threads = torch.get_num_threads() if windows_ND.device.type == "cpu" else 16
    for part_kD in windows_ND.split(threads * size):
        padded = pad(part_kD, (0, 0, 0, -len(part_kD) % threads))
        yield padded.view(threads, -1, padded.shape[1]).transpose(1, 2).contiguous()


def _means_of_softplus_(scores_TLPn: Tensor) -> Tensor:
    """Means [T, L, n] over P of softplus; overwrites the scores. Infinite where a product of FACTORS overflows.

    Σ log(1 + e^t) = log Π (1 + e^t): one logarithm for FACTORS scores. Every factor is at least 1, so that no product
    vanishes, and its rounding is that of softplus near 1.
    """
    if scores_TLPn.device.type != "cpu":
        # There softplus is one pass over memory, and that is what takes the time.
        return softplus(scores_TLPn).mean(2)
    factors_TLPn = scores_TLPn.exp_().add_(1)
    logarithms = [some.prod(2).log_() for some in factors_TLPn.split(FACTORS, 2)]
    return torch.stack(logarithms).sum(0).div_(scores_TLPn.shape[2])


def _norm(config: PatchEncoderConfig, features: int) -> nn.Module:
    return nn.BatchNorm2d(features) if config.normalisation == "batch" else nn.Identity()
