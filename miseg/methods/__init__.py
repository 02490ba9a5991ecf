"""Methods: one file a row of the results table, found through `METHODS`.

Torch is imported when a method is looked up, not with this package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from miseg.methods.cluster_configs import CoOccurrence, InfoSeg, InvariantInformation, PixelKMeans, RelativePosition
from miseg.methods.configs import (
    AffinityField,
    BinaryCrossEntropy,
    CrossEntropy,
    DeepInfoMax,
    MethodConfig,
    MutualInformationSimilarity,
    MutualLearning,
    PatchAutoencoder,
    RegionMutualInformation,
)
from miseg.networks.configs import without_weights

if TYPE_CHECKING:
    from miseg.interface import Method, Task


class _Registry(Mapping[type, "type[Method]"]):
    """A read-only dict from config type to method class that imports the class when it is looked up."""

    def __init__(self, places: dict[type, str]) -> None:
        self._places = places

    def __getitem__(self, config_type: type) -> type[Method]:
        module, name = self._places[config_type].split(":")
        return getattr(import_module(module), name)

    def __iter__(self) -> Iterator[type]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


METHODS: Mapping[type, type[Method]] = _Registry(
    {
        CrossEntropy: "miseg.methods.dense.cross_entropy:CrossEntropyMethod",
        BinaryCrossEntropy: "miseg.methods.dense.binary_cross_entropy:BinaryCrossEntropyMethod",
        RegionMutualInformation: "miseg.methods.dense.region_mutual_information:RegionMutualInformationMethod",
        AffinityField: "miseg.methods.dense.affinity_field:AffinityFieldMethod",
        MutualLearning: "miseg.methods.dense.mutual_learning:MutualLearningMethod",
        MutualInformationSimilarity: "miseg.methods.few.similarity:MutualInformationSimilarityMethod",
        DeepInfoMax: "miseg.methods.few.deep_infomax:DeepInfoMaxMethod",
        PatchAutoencoder: "miseg.methods.few.patch_autoencoder:PatchAutoencoderMethod",
        InfoSeg: "miseg.methods.unsupervised.infoseg:InfoSegMethod",
        InvariantInformation: "miseg.methods.unsupervised.invariant_information:InvariantInformationMethod",
        PixelKMeans: "miseg.methods.unsupervised.k_means:PixelKMeansMethod",
        RelativePosition: "miseg.methods.unsupervised.relative_position:RelativePositionMethod",
        CoOccurrence: "miseg.methods.unsupervised.co_occurrence:CoOccurrenceMethod",
    }
)
"""Every method: the type of its settings -> its class."""


def build_method(config: MethodConfig, task: Task, *, pretrained: bool = True) -> Method:
    """The method that `config` describes, for `task`, its weights drawn from torch's global random state.

    Args:
        config: the method's settings.
        task: classes and channels of the data.
        pretrained: whether networks start from the weights that the settings name; not where a checkpoint follows,
            which brings its own.

    Raises:
        TypeError: settings of a type that `METHODS` does not hold.
        ValueError: named weights that cannot be had.
    """
    if type(config) not in METHODS:
        known = ", ".join(kind.__name__ for kind in METHODS)
        raise TypeError(f"no method takes settings of type {type(config).__name__}; METHODS holds {known}")
    return METHODS[type(config)](config if pretrained else without_weights(config), task)
