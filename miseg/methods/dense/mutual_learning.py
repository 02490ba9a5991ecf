"""Deep mutual learning: Zhang, Xiang, Hospedales and Lu, CVPR 2018 (arXiv:1706.00384), for segmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from miseg.interface import Batch, Method, Step, Task
from miseg.losses import cross_entropy_parts, divergence_from_logits_parts, mutual_learning_parts
from miseg.losses.labels import valid_pixels
from miseg.methods.configs import MutualLearning
from miseg.networks import build_network


class MutualLearningMethod(Method):
    """Networks that each learn from the labels and from the mean of their divergences from all others.

    Network k minimises CE_k + weight · mean over j ≠ k of KL(p_j ‖ p_k), with p_j detached: no gradient flows from one
    network into another. The ignore index and labels outside 0..K-1 do not count.
    """

    supervision: ClassVar[Literal["dense", "few", "none"]] = "dense"
    emits: ClassVar[Literal["classes", "clusters"]] = "classes"

    def __init__(self, config: MutualLearning, task: Task) -> None:
        super().__init__()
        self.config = config
        self.task = task
        self.networks = nn.ModuleList(
            build_network(network, task.in_channels, task.num_classes) for network in config.networks
        )

    def forward(self, batch: Batch) -> Step:
        """Two terms a network: cross-entropy over valid pixels, and the weighted divergence from the others.

        The divergences' count is the valid pixels, or, for `target="logits"`, all elements. Scalars: `ce_k` and
        `divergence_k` of every network k = 1, 2, …, the latter without its weight.

        Raises:
            ValueError: a batch without labels.
        """
        if batch.labels_NHW is None:
            raise ValueError("a batch without labels: mutual learning learns from labels too")
        logits = [network(batch.images_NCHW) for network in self.networks]
        if self.config.target == "logits":
            ce_M, divergence_M, valid, count = self._as_published(logits, batch.labels_NHW)
        else:
            ignore = self.task.ignore_index
            ce_M, divergence_M, valid = mutual_learning_parts(logits, batch.labels_NHW, ignore_index=ignore)
            count = valid
        scalars = {}
        for k in range(len(logits)):
            scalars[f"ce_{k + 1}"] = ce_M[k].detach() / valid.clamp_min(1)
            scalars[f"divergence_{k + 1}"] = divergence_M[k].detach() / count.clamp_min(1)
        totals = torch.stack((ce_M, self.config.weight * divergence_M), 1)
        return Step(totals.flatten(), torch.stack((valid, count)).repeat(len(logits)), scalars)

    def counts(self, batch: Batch) -> Tensor | None:
        """Of each network the valid pixels, and what its divergence is counted in."""
        if batch.labels_NHW is None:
            return None
        valid_NHW = valid_pixels(batch.labels_NHW, self.task.num_classes, self.task.ignore_index)
        valid = valid_NHW.sum(dtype=torch.float32)
        elements = valid.new_full((), valid_NHW.numel() * self.task.num_classes)
        divergences = elements if self.config.target == "logits" else valid
        return torch.stack((valid, divergences)).repeat(len(self.networks))

    def _as_published(self, logits: list[Tensor], labels_NHW: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cross-entropies and the Porto code's divergences of all networks, and the counts of both."""
        valid_NHW = valid_pixels(labels_NHW, self.task.num_classes, self.task.ignore_index)
        parts = [cross_entropy_parts(own, labels_NHW, ignore_index=self.task.ignore_index) for own in logits]
        means = []
        for own in logits:
            divergences = [divergence_from_logits_parts(own, other, valid_NHW) for other in logits if other is not own]
            means.append(torch.stack([total for total, _ in divergences]).mean())
        return torch.stack([total for total, _ in parts]), torch.stack(means), parts[0][1], divergences[0][1]

    def predict(self, images_NCHW: Tensor) -> Tensor:
        """The first network's softmax probabilities, float32 [N, K, H, W], that sum to 1 over K.

        The caller puts the module in eval mode.
        """
        return self.networks[0](images_NCHW).float().softmax(1)

    def others(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """The predictions of networks 2, 3, … as `network_2`, `network_3`, …"""

        def predictor(network: nn.Module) -> Callable[[Tensor], Tensor]:
            return lambda images_NCHW: network(images_NCHW).float().softmax(1)

        return {f"network_{k}": predictor(network) for k, network in enumerate(self.networks, 1) if k > 1}

    def param_groups(self, lr: float) -> list[dict]:
        """Groups for each network apart, as optimisers of their own: they do not share the gradient's norm."""
        groups: list[dict] = []
        for k, network in enumerate(self.networks):
            own: Any = getattr(network, "param_groups", None)
            own_groups = own(lr) if own is not None else [{"params": list(network.parameters()), "lr": lr}]
            groups += [group | {"clip": k} for group in own_groups]
        return groups
