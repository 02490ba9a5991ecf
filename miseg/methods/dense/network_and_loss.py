"""A network trained on a loss of its logits and the labels, which is all that many methods are."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from miseg.interface import Batch, Method, Step, Task
from miseg.losses import cross_entropy_parts
from miseg.losses.labels import counted
from miseg.methods import registry
from miseg.methods.mixture import CrossEntropyMixture
from miseg.networks import Network, build_network


class NetworkAndLoss(Protocol):
    """Settings of such a method."""

    network: Network

    def loss(self, logits_NKHW: Tensor, labels_NHW: Tensor, valid_NHW: Tensor) -> tuple[Tensor, Tensor]:
        """The loss summed over what it is a mean of, such as pixels or images, and their number.

        Args:
            logits_NKHW: float32, or float64 where the network gives it; finite at pixels that do not count.
            labels_NHW: int64; those of pixels that do not count may be anything.
            valid_NHW: bool, the pixels that count.

        Returns:
            Two scalars of the logits' type: the differentiable sum, and the number without gradient, which depends on
            labels and sizes alone. Sums and numbers of several processes, and of the parts of a batch, are added up.
        """


class NetworkAndLossMethod(Method):
    """The network that the settings name, trained on the settings' own `loss`, in single precision under autocast too.

    Settings below `CrossEntropyMixture` mix it with softmax cross-entropy. The ignore index and labels outside 0..K-1
    do not count.
    """

    supervision: ClassVar[Literal["dense", "few", "none"]] = "dense"
    emits: ClassVar[Literal["classes", "clusters"]] = "classes"

    def __init__(self, config: Any, task: Task) -> None:
        super().__init__()
        self.config: NetworkAndLoss = config
        self.task = task
        self.network = build_network(config.network, task.in_channels, task.num_classes)

    def forward(self, batch: Batch) -> Step:
        """One term, the settings' loss; or two, λ · CE over valid pixels and (1 − λ) · the loss.

        Of two, the scalars `ce` and the method's short name are the terms without λ.

        Raises:
            ValueError: a batch without labels.
        """
        if batch.labels_NHW is None:
            raise ValueError(f"a batch without labels: {type(self.config).__name__} learns from labels alone")
        return self._step(self.network(batch.images_NCHW), batch.labels_NHW)

    def counts(self, batch: Batch) -> Tensor | None:
        """The number that the settings' loss gives for logits of 0: it depends on the labels alone."""
        if batch.labels_NHW is None:
            return None
        images, _, height, width = batch.images_NCHW.shape
        with torch.no_grad():
            zeros_NKHW = batch.images_NCHW.new_zeros(images, self.task.num_classes, height, width)
            return self._step(zeros_NKHW, batch.labels_NHW).count

    def _step(self, logits_NKHW: Tensor, labels_NHW: Tensor) -> Step:
        logits_NKHW, labels_NHW, valid_NHW = counted(logits_NKHW, labels_NHW, self.task.ignore_index)
        with torch.autocast(logits_NKHW.device.type, enabled=False):
            total, count = self.config.loss(logits_NKHW, labels_NHW, valid_NHW)
        if not isinstance(self.config, CrossEntropyMixture) or self.config.weight == 0:
            return Step(total.view(1), count.detach().view(1))
        ce_sum, valid = cross_entropy_parts(logits_NKHW, labels_NHW, ignore_index=self.task.ignore_index)
        weight = self.config.share(self.progress)
        return Step(
            total=torch.stack((weight * ce_sum, (1 - weight) * total)),
            count=torch.stack((valid, count.detach())),
            scalars={
                "ce": ce_sum.detach() / valid.clamp_min(1),
                registry.of(self.config).key: total.detach() / count.detach().clamp_min(1),
            },
        )

    def predict(self, images_NCHW: Tensor) -> Tensor:
        """Softmax probabilities, float32 [N, K, H, W], that sum to 1 over K; the largest decides.

        The caller puts the module in eval mode.
        """
        return self.network(images_NCHW).float().softmax(1)
