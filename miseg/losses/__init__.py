"""Losses: tensors in, a scalar out. Nothing here knows of networks, methods or trainers."""

from miseg.losses.binary_cross_entropy import binary_cross_entropy_parts
from miseg.losses.labels import valid_pixels
from miseg.losses.region_mutual_information import (
    RegionMutualInformationLoss,
    RegionMutualInformationParts,
    region_mutual_information_parts,
)

__all__ = [
    "RegionMutualInformationLoss",
    "RegionMutualInformationParts",
    "binary_cross_entropy_parts",
    "region_mutual_information_parts",
    "valid_pixels",
]
