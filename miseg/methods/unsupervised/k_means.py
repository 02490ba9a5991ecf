"""K-means: one set of centres for all images, of the pixels' colours or of what a network makes of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from miseg.extras import require
from miseg.interface import Batch, Step, Task, lot
from miseg.methods.cluster_configs import PixelKMeans
from miseg.methods.unsupervised.clusters import ClusterMethod, upsampled, valid_at


class KMeansMethod(ClusterMethod):
    """Clusters by the nearest of K centres, which `fit_support` finds among the features of all images.

    Args:
        clusters: K; None: as many as the task has classes.
        samples: features from which centres are found.
        task: classes and channels of the data.
        length: numbers D of a feature.
    """

    def __init__(self, clusters: int | None, samples: int, task: Task, length: int) -> None:
        super().__init__(clusters, task)
        self.samples = samples
        self.centres_KD = nn.Parameter(torch.randn(self.num_clusters, length), requires_grad=False)

    @abstractmethod
    def features(self, images_NCHW: Tensor) -> Tensor:
        """The features that are clustered, [N, D, h, w]."""

    def fit_support(self, labels: Iterable[Batch]) -> None:
        """Find the centres by scikit-learn's mini-batch K-means among features of the images of all ranks.

        No label is read; pixels that do not count are left out. Of all features of a rank's images at most `samples`
        are kept, drawn evenly by the images' ids, and of these again as many over all ranks: memory does not grow with
        the data, and neither the images' order nor their batches nor the number of ranks changes the centres. Every
        rank must call, with its share of the images, and has the same centres then. Torch's seed (`manual_seed`), that
        of the first rank, decides the draw.

        Raises:
            ValueError: fewer valid pixels than clusters.
        """
        # Here alone: who predicts with found centres needs no scikit-learn.
        require("networks", "K-means", "sklearn")
        from sklearn.cluster import MiniBatchKMeans

        seed = _of_first_rank(torch.initial_seed() % 2**32)
        training = self.training
        self.eval()
        drawn_MD, keys_M = (
            self.centres_KD.new_empty(0, self.centres_KD.shape[1]).cpu(),
            torch.empty(0, dtype=torch.float64),
        )
        for batch in labels:
            with torch.no_grad():
                features_NDhw = self.features(batch.images_NCHW).float()
            valid_Nhw = valid_at(batch, features_NDhw.shape[2:])
            image, row, column = valid_Nhw.nonzero(as_tuple=True)
            keys = _keys(batch, valid_Nhw.shape[1:], seed)[valid_Nhw.cpu()]
            # Only what is drawn leaves the device.
            drawn = keys > (keys_M.min() if len(keys_M) == self.samples else -1)
            chosen = drawn.to(image.device)
            fresh_MD = features_NDhw[image[chosen], :, row[chosen], column[chosen]].cpu()
            drawn_MD, keys_M = _largest(torch.cat((drawn_MD, fresh_MD)), torch.cat((keys_M, keys[drawn])), self.samples)
        self.train(training)
        if dist.is_initialized() and dist.get_world_size() > 1:
            parts: list = [None] * dist.get_world_size()
            dist.all_gather_object(parts, (drawn_MD, keys_M))
            of_ranks = [torch.cat([part[index] for part in parts]) for index in range(2)]
            drawn_MD, keys_M = _largest(of_ranks[0], of_ranks[1], self.samples)
        if len(drawn_MD) < self.num_clusters:
            raise ValueError(f"{len(drawn_MD)} valid pixels for {self.num_clusters} clusters: give more images")
        drawn_MD = drawn_MD[keys_M.argsort(stable=True)]
        means = MiniBatchKMeans(self.num_clusters, batch_size=4096, n_init=3, random_state=seed).fit(drawn_MD.numpy())
        self.centres_KD.data.copy_(torch.from_numpy(means.cluster_centers_))
        if dist.is_initialized() and dist.get_world_size() > 1:
            # The same samples on machines that are not alike need not end in the same bits.
            dist.broadcast(self.centres_KD.data, 0)

    def predict(self, images_NCHW: Tensor) -> Tensor:
        """softmax(−|x − μ_k|²) of every pixel's feature, float32 [N, K, H, W]: the nearest centre has the most."""
        features = self.features(images_NCHW)
        with torch.autocast(images_NCHW.device.type, enabled=False):
            # Linear in the feature, so that scores are upsampled in place of many more features.
            scores = 2 * torch.einsum("ndhw,kd->nkhw", features.float(), self.centres_KD)
        return upsampled(scores - self.centres_KD.square().sum(1)[:, None, None], images_NCHW).softmax(1)


class PixelKMeansMethod(KMeansMethod):
    """K-means of the pixels' standardised colours.

    There is no network: what training lowers is the quantisation error itself, by its gradient in the centres, until
    `fit_support` finds them.
    """

    def __init__(self, config: PixelKMeans, task: Task) -> None:
        super().__init__(config.clusters, config.samples, task, task.in_channels)
        self.centres_KD.requires_grad_()

    def features(self, images_NCHW: Tensor) -> Tensor:
        """The colours."""
        return images_NCHW

    def forward(self, batch: Batch) -> Step:
        """One term: the squared distance of every valid pixel to the nearest centre."""
        valid = valid_at(batch, batch.images_NCHW.shape[2:])
        pixels_MD = batch.images_NCHW.float().movedim(1, -1)[valid]
        squares_MK = (pixels_MD[:, None] - self.centres_KD).square().sum(2)
        total = squares_MK.amin(1).sum()[None]
        return Step(total, valid.sum()[None].to(total))


def _of_first_rank(seed: int) -> int:
    """The seed of rank 0, on every rank."""
    seeds = [seed]
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.broadcast_object_list(seeds)
    return seeds[0]


def _keys(batch: Batch, size_hw: torch.Size, seed: int) -> Tensor:
    """A random number in 0..1, float64 [N, h, w], for every feature: drawn by the image's id and the seed."""
    generator = torch.Generator()
    return torch.stack(
        [
            torch.rand(*size_hw, generator=generator.manual_seed(lot(str(seed), name)), dtype=torch.float64)
            for name in batch.names()
        ]
    )


def _largest(features_MD: Tensor, keys_M: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The `number` features with the largest keys, and these: random keys make it an even draw."""
    if len(keys_M) <= number:
        return features_MD, keys_M
    keys_M, indices = keys_M.topk(number)
    return features_MD[indices], keys_M
