"""Similarity by mutual information: Sanchez, Serrurier and Ortner (2019, and its few-label segmentation)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, softplus

from miseg.interface import Batch, Step, Task
from miseg.losses import jensen_shannon_parts
from miseg.losses.labels import at_least_single
from miseg.methods.configs import DeepInfoMax, MutualInformationSimilarity
from miseg.methods.few.nearest import Comparison, NearestLabelMethod
from miseg.methods.few.unpaired import Unpaired, of_neighbours, shuffled
from miseg.networks.patches import StatisticsNetwork

LABELS = 8
"""Labels whose scores are averaged at once."""


class MutualInformationSimilarityMethod(NearestLabelMethod):
    """An encoder whose representation of one view tells what is in the other view of the same place.

    Training maximises α I(global) + β I(local) − γ |z_x − z_y|₁ over pairs of views x and y, each I by the
    Jensen-Shannon objective between the local map of one view and the representation of the other (swapped), or of the
    same. Settings say what is summed and what is averaged, which patches are told apart, and by which terms of
    algorithm 2 patches are compared; as published are `reduction` sum, `negatives` batch and `terms` all.

    With `reduction` sum the loss of a pair is α Σ_views + β Σ_views Σ_positions of the softplus terms + γ Σ_components
    |z_x − z_y|. With mean each of these sums is a mean, over views too.
    """

    def __init__(self, config: MutualInformationSimilarity | DeepInfoMax, task: Task) -> None:
        super().__init__(task, config.encoder, config.compare, config.neighbours)
        self.config = config
        # Deep InfoMax has one view, so nothing to swap, and its expectations are means.
        similar = config if isinstance(config, MutualInformationSimilarity) else None
        self.swap = similar is not None and similar.swap
        self.negatives = config.negatives
        self.sums = similar is not None and similar.reduction == "sum"
        self.all_terms = similar is not None and similar.terms == "all"
        features, size = config.encoder.features[1], config.encoder.local_size
        settings = config.encoder.representation, config.hidden, config.discriminator
        self.of_whole = StatisticsNetwork(features, size, *settings) if config.alpha else None
        self.of_parts = StatisticsNetwork(features, 1, *settings) if config.beta else None

    def forward(self, batch: Batch) -> Step:
        """Terms: softplus of joint and of marginal scores, global (α) and local (β), and the L1 difference (γ).

        Counts are scores and pairs; of sums, pairs alone. Scalars: `global_mi` and `local_mi` (nats, at most 0),
        `difference` (the mean of |z_x − z_y|).

        Raises:
            ValueError: a batch without second views, patches of another size, or an odd number of pairs where each is
                told from its neighbour.
        """
        if batch.views_NCHW is None:
            raise ValueError("a batch without second views: this method learns from pairs")
        pairs = len(batch.images_NCHW)
        if pairs % 2 and self.negatives == "chip":
            raise ValueError(f"{pairs} pairs in a worker's share of the batch: use an even number")
        local, z = self.encoder(torch.cat([batch.images_NCHW, batch.views_NCHW]))
        other_view = torch.arange(2 * pairs, device=z.device).roll(pairs)
        joint = z[other_view] if self.swap else z
        # A rank that evaluates calls by itself.
        unpaired = of_neighbours(joint) if self.negatives == "chip" else shuffled(joint, across_ranks=self.training)
        totals, counts, scalars = self.information(local, joint, unpaired)
        if self.sums:
            counts = [count.new_full(count.shape, pairs) for count in counts]
        z_x, z_y = at_least_single(z).chunk(2)
        difference = (z_x - z_y).abs().mean(1).sum()
        components = z.shape[1] if self.sums else 1
        totals += [self.config.gamma * components * difference[None]]
        counts += [difference.new_tensor([pairs])]
        scalars["difference"] = difference.detach() / pairs
        return Step(torch.cat(totals), torch.cat(counts), scalars)

    def information(
        self, local: Tensor, joint_NZ: Tensor, unpaired: Unpaired
    ) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """Terms, counts and scalars of α I(global) + β I(local) between local maps and representations.

        Args:
            local: local maps [N, F, p, p].
            joint_NZ: the representation that belongs to each.
            unpaired: one that does not.
        """
        totals: list[Tensor] = []
        counts: list[Tensor] = []
        scalars = {}
        weighed = (("global", self.config.alpha, self.of_whole), ("local", self.config.beta, self.of_parts))
        for name, weight, network in weighed:
            if network is None:
                continue
            windows = network.of_window(local).movedim(1, -1)
            partners = network.of_representation(joint_NZ)[:, None, None]
            others = partners
            if unpaired.pool_MZ is not joint_NZ:
                others = network.of_representation(unpaired.pool_MZ)[:, None, None]
            joint, marginal = network.score(windows, partners), network.score(windows, others[unpaired.index_N])
            total, count = jensen_shannon_parts(joint, marginal)
            totals += [weight * total]
            counts += [count]
            scalars[f"{name}_mi"] = -(total.detach() / count).sum()
        return totals, counts, scalars

    def comparisons(self) -> dict[str, Comparison]:
        """L1 distances, and global and local mutual information where they are trained."""
        comparisons = super().comparisons()
        side = self.config.encoder.local_size
        for name, network, of_one, positions in (
            ("global", self.of_whole, self._by_whole, 1),
            ("local", self.of_parts, self._by_parts, side),
        ):
            if network is None:
                continue
            if self.all_terms:
                of_image = partial(self._windows_and_representations, network)
                comparisons[name] = Comparison(of_image, partial(self._by_all_terms, network, positions))
            else:
                comparisons[name] = Comparison(partial(self._windows, network), of_one)
        return comparisons

    def _windows(self, network: StatisticsNetwork, image_1BHW: Tensor) -> Tensor:
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

    def _windows_and_representations(self, network: StatisticsNetwork, image_1BHW: Tensor) -> Tensor:
        """Encodings by `network` of the image's windows and of its representations, [1, 2D, h', w'].

        The representations, which are fewer, lie in the upper left corner.
        """
        local, represented_1ZHW = self.encoder.maps(image_1BHW)
        windows_1DHW = network.of_window(local)
        encoded_1DHW = network.of_representation(represented_1ZHW.movedim(1, -1)).movedim(-1, 1)
        hidden, height, width = encoded_1DHW.shape[1:]
        # A pixel's numbers side by side, as what follows reads them.
        both_1HWE = windows_1DHW.new_zeros(1, *windows_1DHW.shape[2:], 2 * hidden)
        both_1EHW = both_1HWE.movedim(-1, 1)
        both_1EHW[:, :hidden] = windows_1DHW
        both_1EHW[:, hidden:, :height, :width] = encoded_1DHW
        return both_1EHW

    def _by_all_terms(
        self, network: StatisticsNetwork, side: int, features_1EHW: Tensor, patches_LBPP: Tensor
    ) -> Tensor:
        """−D of algorithm 2, over the positions of a patch: a mean, so that confidences do not hang on their number.

        For a pixel j and a label i, D = −sp(−T(C_i, S_i)) − sp(−T(C_j, S_j)) − sp(T(C_i, S_j)) − sp(T(C_j, S_i)), sp
        being softplus. The second term is left out: it is the same for all labels.
        """
        windows_1DHW, encoded_1DHW = features_1EHW.chunk(2, 1)
        local_LFpp, representations_LZ = self.encoder(patches_LBPP)
        windows_LDpp = network.of_window(local_LFpp)
        own_L11 = softplus(-network(local_LFpp, representations_LZ)).mean((1, 2), keepdim=True)
        scores_LHW = _each(network, windows_1DHW, representations_LZ)
        scores_LHW = _means(scores_LHW, side, softplus)
        height, width = scores_LHW.shape[1:]
        encoded_ND = encoded_1DHW[0, :, :height, :width].movedim(0, -1).flatten(0, 1)
        scores_LHW += network.softplus_each(encoded_ND, windows_LDpp.flatten(2).mT).view_as(scores_LHW)
        return scores_LHW.add_(own_L11)


def _each(network: StatisticsNetwork, windows_1DHW: Tensor, representations_LZ: Tensor) -> Tensor:
    """Scores [L, H, W] of every window with every labelled representation."""
    scores_LN = network.score_each(windows_1DHW[0].flatten(1).T, representations_LZ)
    return scores_LN.view(-1, *windows_1DHW.shape[2:])


def _means(scores_LHW: Tensor, side: int, of: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Means over windows of side x side: as avg_pool2d, an axis and a few labels (which the cache holds) at a time.

    `of` is applied to the scores first.
    """
    height, width = (size - side + 1 for size in scores_LHW.shape[1:])
    means_LHW = scores_LHW.new_empty(len(scores_LHW), height, width)
    for part, mean in zip(scores_LHW.split(LABELS), means_LHW.split(LABELS), strict=True):
        values = part if of is None else of(part)
        rows = values[:, :height].clone()
        for offset in range(1, side):
            rows += values[:, offset : offset + height]
        mean.copy_(rows[..., :width])
        for offset in range(1, side):
            mean += rows[..., offset : offset + width]
        mean /= side**2
    return means_LHW
