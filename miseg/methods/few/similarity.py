"""Similarity by mutual information: Sanchez, Serrurier and Ortner (2019, and its few-label segmentation)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from miseg.interface import Batch, Step, Task
from miseg.losses import jensen_shannon_parts
from miseg.methods.configs import DeepInfoMax, MutualInformationSimilarity
from miseg.methods.few.nearest import Comparison, NearestLabelMethod
from miseg.networks.patches import StatisticsNetwork

LABELS = 8
"""Labels whose scores are averaged at once."""


class MutualInformationSimilarityMethod(NearestLabelMethod):
    """An encoder whose representation of one view tells what is in the other view of the same place.

    Training maximises α I(global) + β I(local) − γ |z_x − z_y|₁ over pairs of views x and y, each I by the
    Jensen-Shannon objective between the local map of one view and the representation of the other (swapped), or of the
    same. The L1 difference is the mean over components, not their sum: with the sum of 32 and the paper's γ of 0.1 the
    representations collapsed before anything was learned (400 steps on Sentinel-2, both I at −2 log 2).

    A pair's marginal partner is its neighbour in the batch: 0 with 1, 2 with 3, and so on, so that ranks that take even
    shares compute what one rank does.
    """

    def __init__(self, config: MutualInformationSimilarity | DeepInfoMax, task: Task) -> None:
        super().__init__(task, config.encoder, config.compare, config.neighbours)
        self.config = config
        # Deep InfoMax has one view, so nothing to swap.
        self.swap = isinstance(config, MutualInformationSimilarity) and config.swap
        features, size = config.encoder.features[1], config.encoder.local_size
        settings = config.encoder.representation, config.hidden, config.discriminator
        self.of_whole = StatisticsNetwork(features, size, *settings) if config.alpha else None
        self.of_parts = StatisticsNetwork(features, 1, *settings) if config.beta else None

    def forward(self, batch: Batch) -> Step:
        """Terms: softplus of joint and of marginal scores, global (α) and local (β), and the L1 difference (γ).

        Counts are scores and pairs. Scalars: `global_mi` and `local_mi` (nats, at most 0), `difference` (the mean of
        |z_x − z_y|).

        Raises:
            ValueError: a batch without second views, of an odd number of pairs, or patches of another size.
        """
        if batch.views_NCHW is None:
            raise ValueError("a batch without second views: this method learns from pairs")
        pairs = len(batch.images_NCHW)
        if pairs % 2:
            raise ValueError(f"{pairs} pairs in a worker's share of the batch: use an even number")
        local, z = self.encoder(torch.cat([batch.images_NCHW, batch.views_NCHW]))
        other_view = torch.arange(2 * pairs, device=z.device).roll(pairs)
        totals, counts, scalars = self.information(local, z[other_view] if self.swap else z)
        z_x, z_y = z.float().chunk(2)
        difference = (z_x - z_y).abs().mean(1).sum()
        totals += [self.config.gamma * difference[None]]
        counts += [difference.new_tensor([pairs])]
        scalars["difference"] = difference.detach() / pairs
        return Step(torch.cat(totals), torch.cat(counts), scalars)

    def information(self, local: Tensor, joint_NZ: Tensor) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """Terms, counts and scalars of α I(global) + β I(local) between local maps and the representations beside them.

        The marginal partner of each is its neighbour's representation.
        """
        totals: list[Tensor] = []
        counts: list[Tensor] = []
        scalars = {}
        neighbour = torch.arange(len(joint_NZ), device=joint_NZ.device) ^ 1
        weighed = (("global", self.config.alpha, self.of_whole), ("local", self.config.beta, self.of_parts))
        for name, weight, network in weighed:
            if network is None:
                continue
            windows = network.of_window(local).movedim(1, -1)
            partners = network.of_representation(joint_NZ)[:, None, None]
            joint, marginal = network.score(windows, partners), network.score(windows, partners[neighbour])
            total, count = jensen_shannon_parts(joint, marginal)
            totals += [weight * total]
            counts += [count]
            scalars[f"{name}_mi"] = -(total.detach() / count).sum()
        return totals, counts, scalars

    def comparisons(self) -> dict[str, Comparison]:
        """L1 distances, and global and local mutual information where they are trained."""
        comparisons = super().comparisons()
        if self.of_whole is not None:
            comparisons["global"] = Comparison(lambda image: self._windows(self.of_whole, image), self._by_whole)
        if self.of_parts is not None:
            comparisons["local"] = Comparison(lambda image: self._windows(self.of_parts, image), self._by_parts)
        return comparisons

    def _windows(self, network: StatisticsNetwork | None, image_1BHW: Tensor) -> Tensor:
        assert network is not None
        return network.of_window(self.encoder.local_map(image_1BHW))

    def _by_whole(self, windows_1DHW: Tensor, patches_LBPP: Tensor) -> Tensor:
        assert self.of_whole is not None
        return _each(self.of_whole, windows_1DHW, self.encoder(patches_LBPP)[1])

    def _by_parts(self, windows_1DHW: Tensor, patches_LBPP: Tensor) -> Tensor:
        assert self.of_parts is not None
        side = self.config.encoder.local_size
        representations_LZ = self.encoder(patches_LBPP)[1]
        if self.config.discriminator == "dot":
            # The mean over a patch of inner products is the inner product with the mean.
            return _each(self.of_parts, avg_pool2d(windows_1DHW, side, 1), representations_LZ)
        scores_LHW = _each(self.of_parts, windows_1DHW, representations_LZ)
        del windows_1DHW
        return _means(scores_LHW, side)


def _each(network: StatisticsNetwork, windows_1DHW: Tensor, representations_LZ: Tensor) -> Tensor:
    """Scores [L, H, W] of every window with every labelled representation."""
    scores_LN = network.score_each(windows_1DHW[0].flatten(1).T, representations_LZ)
    return scores_LN.view(-1, *windows_1DHW.shape[2:])


def _means(scores_LHW: Tensor, side: int) -> Tensor:
    """Means over windows of side x side: as avg_pool2d, an axis and a few labels (which the cache holds) at a time."""
    height, width = (size - side + 1 for size in scores_LHW.shape[1:])
    means_LHW = scores_LHW.new_empty(len(scores_LHW), height, width)
    for part, mean in zip(scores_LHW.split(LABELS), means_LHW.split(LABELS), strict=True):
        rows = part[:, :height].clone()
        for offset in range(1, side):
            rows += part[:, offset : offset + height]
        mean.copy_(rows[..., :width])
        for offset in range(1, side):
            mean += rows[..., offset : offset + width]
        mean /= side**2
    return means_LHW
