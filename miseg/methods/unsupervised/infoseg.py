"""InfoSeg: Harb and Knöbelreiter, Unsupervised semantic image segmentation with mutual information maximization (2021).

Equations are numbered as in chapter 4 of the thesis (Graz University of Technology) that the paper comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from miseg.interface import Batch, HeldOut, Step, Task, combine, drawn_by
from miseg.losses import jensen_shannon_parts
from miseg.methods.cluster_configs import InfoSeg
from miseg.methods.unsupervised.clusters import ClusterMethod, jittered, upsampled, valid_at
from miseg.methods.unsupervised.partners import ImageSample, partners_of
from miseg.networks.infoseg import Features, InfoSegNetwork

PATCHES = 256
"""Patches of an image that are scored with other images' assignments on held-out images, where it has more."""


class InfoSegMethod(ClusterMethod):
    """Local features that tell which of K features of their image they belong to, and not another image's.

    A patch's scores are the inner products of its local feature and the image's K high-level ones; its cluster
    probabilities are softmax(τ · scores), and its assigned feature is the mean of the K by these probabilities
    (equation 4.14), or the best one (equation 4.7). Training maximises the Jensen-Shannon bound (Nowozin et al. 2016;
    equation 4.12, whose second term is printed without T) between local and assigned features, where T is the inner
    product: jointly, the patch's own assignment; apart, the assignment that another image's patch has at the same
    place, made of that image's high-level features. The thesis writes λ for τ in one place.

    In training another image is the neighbour in the batch, 0 with 1, 2 with 3, and so on (the last of an odd number
    has the first), so that ranks which take even shares compute what one rank does. Training's batches are drawn from
    the whole split, so an image's neighbour is another one each epoch. On held-out images it is several that are drawn
    over the split: see `HeldOutBound`.
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
        # An image may be drawn twice into a batch, and is no other image then.
        names = batch.ids or tuple(str(number) for number in range(len(images)))
        differs = torch.tensor([name != names[n] for name, n in zip(names, other.tolist(), strict=True)])
        apart = valid & valid[other] & differs.to(images.device)[:, None, None]
        total, count = jensen_shannon_parts(joint_Nhw, marginal_Nhw, counted=(valid, apart))
        bound = -(total.detach() / count.clamp_min(1)).sum()
        return Step(total, count, {"mutual_information": bound})

    def held_out(self) -> HeldOutBound:
        """The bound with partners from the whole split."""
        return HeldOutBound(self)

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


class _Image(NamedTuple):
    """Features and assignments of an image that marginal scores need, float32 on the CPU.

    Attributes:
        local_MP: local features of some valid patches.
        places_M2: their rows and columns as shares of the height and width, in 0..1.
        high_KP: the high-level features.
        weights_Khw: the assignment of every patch.
        valid_hw: bool, which patches count.
    """

    local_MP: Tensor
    places_M2: Tensor
    high_KP: Tensor
    weights_Khw: Tensor
    valid_hw: Tensor


class HeldOutBound(HeldOut):
    """The two terms of the bound over a split: joint scores of all patches, marginal ones of drawn pairs of images.

    Up to 128 images are drawn by their ids from the whole split, and each meets the assignments of 8 others of them at
    the places of up to 256 of its patches. All is drawn by ids: checkpoints, seeds and learning rates are compared on
    the same pairs. Others are not of the image's own group, where groups are known and there is more than one. Of
    images of two sizes the same place is the same share of height and width.
    """

    def __init__(self, method: InfoSegMethod) -> None:
        super().__init__(method)
        self.infoseg = method
        self.sample = ImageSample[_Image]()
        self.total = self.count = torch.zeros(2, dtype=torch.float64)

    def update(self, batch: Batch) -> None:
        """Add images: joint scores of all, and what the marginal ones need of those that are drawn."""
        features = self.infoseg.network(batch.images_NCHW)
        scores_NKhw = self.infoseg.scores(features)
        weights_NKhw = self.infoseg.assignment(scores_NKhw)
        joint_Nhw = (weights_NKhw * scores_NKhw).sum(1)
        valid_Nhw = valid_at(batch, joint_Nhw.shape[1:])
        total = (softplus(-joint_Nhw) * valid_Nhw).sum(dtype=torch.float64)
        self._add(0, total, valid_Nhw.sum())
        for number, name in enumerate(batch.names()):
            if self.sample.wants(name):
                of_image = (features.local_NPhw, features.high_NKP, weights_NKhw, valid_Nhw)
                image = _kept(name, *(values[number].detach().cpu() for values in of_image))
                self.sample.add(name, batch.groups[number] if batch.groups else "", image)

    def loss(self, gather: Callable[[Any], list[Any]] = lambda value: [value]) -> float:
        """The negative bound in nats; its second term is 0 where there is one image."""
        groups = self.sample.join(gather)
        others: dict[str, _Image] = {}
        for part in gather({name: image._replace(local_MP=torch.empty(0)) for name, image in self.sample.kept.items()}):
            others |= part
        for name, image in self.sample.kept.items():
            for other in partners_of(name, groups):
                self._add(1, *_marginal(image, others[other]))
        total, count = (torch.stack(values).sum(0) for values in zip(*gather((self.total, self.count)), strict=True))
        return combine(total, count).item()

    def _add(self, term: int, total: Tensor, count: Tensor) -> None:
        of_term_T = torch.nn.functional.one_hot(torch.tensor(term), 2).double()
        self.total, self.count = self.total + of_term_T * total.cpu(), self.count + of_term_T * count.cpu()


def _kept(name: str, local_Phw: Tensor, high_KP: Tensor, weights_Khw: Tensor, valid_hw: Tensor) -> _Image:
    places_M2 = valid_hw.nonzero()
    with drawn_by(torch.device("cpu"), "patches", name):
        places_M2 = places_M2[torch.randperm(len(places_M2))[:PATCHES]]
    local_MP = local_Phw[:, places_M2[:, 0], places_M2[:, 1]].T.float().contiguous()
    shares_M2 = (places_M2 + 0.5) / torch.tensor(valid_hw.shape)
    return _Image(local_MP, shares_M2, high_KP.float(), weights_Khw.float(), valid_hw)


def _marginal(image: _Image, other: _Image) -> tuple[Tensor, Tensor]:
    """The sum of softplus of an image's patches' scores with another's assigned features, and their number."""
    rows, columns = (image.places_M2 * torch.tensor(other.valid_hw.shape)).long().unbind(1)
    scores_M = ((other.high_KP @ image.local_MP.T) * other.weights_Khw[:, rows, columns]).sum(0)
    counted_M = other.valid_hw[rows, columns]
    return (softplus(scores_M) * counted_M).sum(dtype=torch.float64), counted_M.sum()
