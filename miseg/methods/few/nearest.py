"""Few labels: every pixel takes the class of the labelled pixels that its patch is nearest to (Sanchez et al., alg. 2).

The literal algorithm compares one patch with one labelled patch at a time. Here every layer runs once over the whole
image, and what the comparison repeats is as little as it can be; the map is the same.

Shape suffixes: N images or patches, B bands, P the side of a patch, L labelled pixels, Z numbers that stand for a
patch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad, unfold

from miseg.interface import Batch, Method, Task
from miseg.networks.configs import PatchEncoder as PatchEncoderConfig
from miseg.networks.patches import PatchEncoder

STRIP_BYTES = 2**27
"""Memory for the scores of one strip of an image."""


@dataclass(frozen=True)
class Support:
    """Labelled pixels, in the order of their classes.

    Attributes:
        patches_LBPP: the patches around them.
        labels_L: their classes, int64, ascending.
    """

    patches_LBPP: Tensor
    labels_L: Tensor


@dataclass(frozen=True)
class Comparison:
    """Measure of nearness between labelled pixels and every pixel of an image, which is padded by half a patch.

    Attributes:
        of_image: [1, B, h + P − 1, w + P − 1] -> features [1, D, h', w'], which no labelled pixel changes.
        scores: (features, patches [L, B, P, P]) -> scores [L, h, w], higher is nearer.
    """

    of_image: Callable[[Tensor], Tensor]
    scores: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, image_1BHW: Tensor, patches_LBPP: Tensor) -> Tensor:
        """The scores of an image that is compared once."""
        return self.scores(self.of_image(image_1BHW), patches_LBPP)


class NearestLabelMethod(Method):
    """A method that learns without labels and maps by the nearest labelled pixels.

    `fit_support` takes the labelled pixels, `predict` maps. Pixels beyond the border are reflected ones, so that every
    pixel has a class. `compare` names the one of `comparisons` that `predict` uses; `predict_by` takes any.
    """

    supervision: ClassVar[Literal["dense", "few", "none"]] = "few"
    emits: ClassVar[Literal["classes", "clusters"]] = "classes"
    pairs: ClassVar[bool] = True

    def __init__(self, task: Task, encoder: PatchEncoderConfig, compare: str, neighbours: int) -> None:
        super().__init__()
        self.task, self.patch, self.compare, self.neighbours = task, encoder.patch, compare, neighbours
        self.encoder = PatchEncoder(encoder, task.in_channels)
        self.support: Support | None = None

    def comparisons(self) -> dict[str, Comparison]:
        """By name: L1 between representations, between patches as they are and between their middle pixels.

        The last two learn nothing: what a method is compared with. A method may have more.
        """
        return {
            "representation": Comparison(lambda image: self.encoder.maps(image)[1], self._by_representation),
            "patches": Comparison(
                self._patches, lambda features, patches: nearest_by_distance(features, patches.flatten(1))
            ),
            "pixels": Comparison(
                self._middles, lambda features, patches: nearest_by_distance(features, self._middle(patches))
            ),
        }

    def prepare(self, compare: str, image_BHW: Tensor) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """The features of an image for a comparison, to be kept, and the function that scores patches with them.

        See `Comparison`; the image is not padded yet.

        Raises:
            ValueError: no such comparison, or an image smaller than a patch.
        """
        if compare not in self.comparisons():
            raise ValueError(f"compare = {compare!r}: this model has {', '.join(self.comparisons())}")
        comparison = self.comparisons()[compare]
        with torch.no_grad():
            features = comparison.of_image(self._padded(image_BHW[None]))
        # A pixel's features side by side, as the scores read them: else each comparison would copy them all.
        return features.contiguous(memory_format=torch.channels_last), torch.no_grad()(comparison.scores)

    def fit_support(self, labels: Iterable[Batch]) -> None:
        """Take every labelled pixel of `labels` (all others hold the ignore index) as an example of its class.

        Raises:
            ValueError: no labelled pixel, a batch without labels, or images smaller than a patch.
        """
        patches: list[Tensor] = []
        classes: list[Tensor] = []
        for batch in labels:
            if batch.labels_NHW is None:
                raise ValueError("a batch without labels: give the labelled pixels, all others the ignore index")
            image, row, column = torch.nonzero(batch.labels_NHW != self.task.ignore_index, as_tuple=True)
            padded = self._padded(batch.images_NCHW)
            offsets = torch.arange(self.patch, device=padded.device)
            rows, columns = row[:, None, None] + offsets[:, None], column[:, None, None] + offsets
            patches.append(padded[image[:, None, None], :, rows, columns].permute(0, 3, 1, 2))
            classes.append(batch.labels_NHW[image, row, column])
        labels_L = torch.cat(classes) if classes else torch.empty(0)
        if not len(labels_L):
            raise ValueError("no labelled pixel: label at least one pixel of each class")
        labels_L, order = labels_L.sort(stable=True)
        self.support = Support(torch.cat(patches)[order], labels_L)

    def predict(self, images_NCHW: Tensor) -> Tensor:
        """Probabilities, float32 [N, K, H, W], that sum to 1 over K; a class without an example has 0.

        With one neighbour the class is that of the nearest labelled pixel (of equals, the first class's); with k, that
        of most among the k nearest, and of the nearer where they are even.

        Raises:
            ValueError: `fit_support` was not called, or images smaller than a patch.
        """
        return self.predict_by(self.compare, images_NCHW)

    def predict_by(self, compare: str, images_NCHW: Tensor) -> Tensor:
        """Class probabilities [N, K, H, W], as `predict` gives them, by the comparison of that name."""
        if self.support is None:
            raise ValueError("there are no labelled pixels to compare with: call fit_support first")
        with torch.no_grad():
            return torch.stack([self._probabilities(compare, image, self.support) for image in images_NCHW])

    def _by_representation(self, represented_1ZHW: Tensor, patches_LBPP: Tensor) -> Tensor:
        return nearest_by_distance(represented_1ZHW, self.encoder(patches_LBPP)[1])

    def _patches(self, image_1BHW: Tensor) -> Tensor:
        height, width = (size - self.patch + 1 for size in image_1BHW.shape[-2:])
        return unfold(image_1BHW, self.patch).view(1, -1, height, width)

    def _middles(self, image_1BHW: Tensor) -> Tensor:
        border = self.patch // 2
        middle = slice(border, -border) if border else slice(None)
        return image_1BHW[..., middle, middle]

    def _middle(self, patches_LBPP: Tensor) -> Tensor:
        border = self.patch // 2
        return patches_LBPP[:, :, border, border]

    def _probabilities(self, compare: str, image_BHW: Tensor, support: Support) -> Tensor:
        strips = [self.vote(scores, support.labels_L) for scores in self.scores(compare, image_BHW)]
        return torch.cat(strips, 1)

    def scores(self, compare: str, image_BHW: Tensor) -> Iterator[Tensor]:
        """Scores [L, h, W] of strips of the image from top to bottom, so that memory is bounded whatever its size.

        Raises:
            ValueError: an image smaller than a patch.
        """
        assert self.support is not None
        padded = self._padded(image_BHW[None])
        height, width = image_BHW.shape[-2:]
        rows = max(1, STRIP_BYTES // (4 * width * max(len(self.support.labels_L), 512)))
        score = self.comparisons()[compare]
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            yield score(padded[..., top : bottom + self.patch - 1, :], self.support.patches_LBPP)

    def _padded(self, images_NBHW: Tensor) -> Tensor:
        border, (height, width) = self.patch // 2, images_NBHW.shape[-2:]
        if min(height, width) < self.patch:
            raise ValueError(f"an image of {height} x {width} pixels is smaller than a patch of {self.patch} a side")
        return pad(images_NBHW, (border,) * 4, mode="reflect") if border else images_NBHW

    def vote(self, scores_LHW: Tensor, labels_L: Tensor) -> Tensor:
        """Probabilities [K, H, W] by the scores of labelled pixels, whose classes ascend: see `predict`."""
        scores_LHW = scores_LHW.float() if scores_LHW.dtype != torch.float64 else scores_LHW
        classes = self.task.num_classes
        best_KHW = scores_LHW.new_full((classes, *scores_LHW.shape[1:]), -torch.inf)
        for label in labels_L.unique().tolist():
            best_KHW[label] = scores_LHW[labels_L == label].amax(0)
        if self.neighbours == 1:
            return best_KHW.softmax(0).float()
        nearest = min(self.neighbours, len(labels_L))
        # Stable, so that of equally near pixels the first counts, as in the literal algorithm.
        nearest_labels = labels_L[scores_LHW.argsort(dim=0, descending=True, stable=True)[:nearest]]
        votes_KHW = torch.stack([(nearest_labels == label).sum(0) for label in range(classes)])
        # Less than half a vote for the order of nearness: it decides between classes of as many votes and no others.
        rank_KHW = best_KHW.argsort(dim=0, descending=True, stable=True).argsort(dim=0)
        shares_KHW = votes_KHW + (votes_KHW > 0) * (classes - rank_KHW) / (3 * classes)
        return (shares_KHW / shares_KHW.sum(0)).float()


def nearest_by_distance(represented_1ZHW: Tensor, support_LZ: Tensor) -> Tensor:
    """−log of the L1 distance between every pixel's vector and every labelled one: scores [L, H, W].

    The logarithm changes no order, and makes a class's share of the inverse distances its probability.
    """
    height, width = represented_1ZHW.shape[-2:]
    distances = torch.cdist(represented_1ZHW[0].flatten(1).T.contiguous(), support_LZ, p=1)
    return -distances.clamp_min(torch.finfo(distances.dtype).tiny).log().T.reshape(-1, height, width)
