"""Whether decoded images are kept; no torch here, for a job asks before it starts anything."""

from __future__ import annotations

import math

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.decoded import DecodedImages
from miseg.recipes.experiment import Experiment
from miseg.service.cluster.ray_cluster import decoded_folder


def keeping(dataset: PackedDataset, experiment: Experiment, budget: int) -> PackedDataset:
    """The data set, of which each machine of this cluster keeps decoded images, where `budget` bytes hold them.

    The folder is that of Ray's session: it lasts as long as the cluster, and the next training finds it. What other
    splits take has no part in the decision; their images are kept while there is room.
    """
    if decoded_bytes(dataset, experiment) > budget:
        return dataset
    return dataset.keeping(DecodedImages(decoded_folder(), budget))


def decoded_bytes(dataset: PackedDataset, experiment: Experiment) -> float:
    """About what the images take, decoded, that a training sees.

    Infinite where keeping them is no use: a chip of a scene is decoded for many pairs.
    """
    if experiment.learns_from_pairs:
        return math.inf
    size = dataset.size("train")
    return dataset.decoded_bytes("train") * (experiment.labelled_images or size) / size
