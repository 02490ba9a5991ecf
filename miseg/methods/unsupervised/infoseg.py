"""InfoSeg: Harb and Knöbelreiter, Unsupervised semantic image segmentation with mutual information maximization (2021).

Equations are numbered as in chapter 4 of the thesis (Graz University of Technology) that the paper comes from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from miseg.interface import Batch, Step, Task
from miseg.losses import jensen_shannon_parts
from miseg.methods.cluster_configs import InfoSeg
from miseg.methods.unsupervised.clusters import ClusterMethod, jittered, upsampled, valid_at
from miseg.networks.infoseg import Features, InfoSegNetwork


class InfoSegMethod(ClusterMethod):
    """Local features that tell which of K features of their image they belong to, and not another image's.

    A patch's scores are the inner products of its local feature and the image's K high-level ones; its cluster
    probabilities are softmax(τ · scores), and its assigned feature is the mean of the K by these probabilities
    (equation 4.14), or the best one (equation 4.7). Training maximises the Jensen-Shannon bound (Nowozin et al. 2016;
    equation 4.12, whose second term is printed without T) between local and assigned features, where T is the inner
    product: jointly, the patch's own assignment; apart, the assignment that another image's patch has at the same
    place, made of that image's high-level features. The thesis writes λ for τ in one place.

    Another image is the neighbour in the batch, 0 with 1, 2 with 3, and so on (the last of an odd number has the
    first), so that ranks which take even shares compute what one rank does.
    """

    def __init__(self, config: InfoSeg, task: Task) -> None:
        super().__init__(config.clusters, task)
        self.config = config
        self.network = InfoSegNetwork(config.network, task.in_channels, self.num_clusters)

    def forward(self, batch: Batch) -> Step:
        """Terms: softplus(−T) of joint and softplus(T) of marginal scores, over valid patches.

        Scalars: `mutual_information` (the bound in nats, at most 0).

        Raises:
            ValueError: one image in training: there is no other to tell it from.
        """
        images = batch.images_NCHW
        if self.training and len(images) < 2:
            raise ValueError("one image in a worker's share of the batch: InfoSeg tells images apart, use 2 or more")
        features = self.network(jittered(images, self.config.jitter) if self.training else images)
        other = torch.arange(len(images), device=images.device) ^ 1
        if len(images) % 2:
            other[-1] = 0
        own_NKhw = self.scores(features)
        weights_NKhw = self.assignment(own_NKhw)
        # <c, Σ_k w_k h_k> = Σ_k w_k <c, h_k>: the assigned features themselves are never built.
        cross_NKhw = self.scores(Features(features.local_NPhw, features.high_NKP[other]))
        joint_Nhw = (weights_NKhw * own_NKhw).sum(1)
        marginal_Nhw = (weights_NKhw[other] * cross_NKhw).sum(1)
        valid = valid_at(batch, joint_Nhw.shape[1:])
        apart = valid & valid[other] & (other != torch.arange(len(images), device=images.device))[:, None, None]
        total, count = jensen_shannon_parts(joint_Nhw, marginal_Nhw, counted=(valid, apart))
        bound = -(total.detach() / count.clamp_min(1)).sum()
        return Step(total, count, {"mutual_information": bound})

    def scores(self, features: Features) -> Tensor:
        """Inner products of every local feature with the K high-level ones, float32 [N, K, h, w]."""
        with torch.autocast(features.local_NPhw.device.type, enabled=False):
            return torch.einsum("nphw,nkp->nkhw", features.local_NPhw.float(), features.high_NKP.float())

    def assignment(self, scores_NKhw: Tensor) -> Tensor:
        """The weights of the K features in a patch's own, which sum to 1."""
        if self.config.assignment == "hard":
            return torch.zeros_like(scores_NKhw).scatter_(1, scores_NKhw.argmax(1, keepdim=True), 1.0)
        return self.probabilities(scores_NKhw)

    def probabilities(self, scores_NKhw: Tensor) -> Tensor:
        """softmax(τ · scores) over the clusters."""
        return (self.config.tau * scores_NKhw).softmax(1)

    def predict(self, images_NCHW: Tensor) -> Tensor:
        """Cluster probabilities, float32 [N, K, H, W], upsampled bilinearly (equation 4.11)."""
        return upsampled(self.probabilities(self.scores(self.network(images_NCHW))), images_NCHW)
