"""Losses: tensors in, a scalar out. Nothing here knows of networks, methods or trainers."""

from miseg.losses.information.divergence import divergence_from_logits_parts, mutual_learning_parts
from miseg.losses.information.invariant_information import iic_segmentation_loss
from miseg.losses.information.jensen_shannon import jensen_shannon_mutual_information, jensen_shannon_parts
from miseg.losses.information.region_mutual_information import (
    RegionMutualInformationLoss,
    RegionMutualInformationParts,
    region_mutual_information_parts,
    region_vectors,
)
from miseg.losses.pixels.binary_cross_entropy import binary_cross_entropy_parts
from miseg.losses.pixels.cross_entropy import cross_entropy_parts
from miseg.losses.shapes.affinity_field import AffinityFieldLoss, AffinityFieldParts, affinity_field_parts

__all__ = [
    "AffinityFieldLoss",
    "AffinityFieldParts",
    "RegionMutualInformationLoss",
    "RegionMutualInformationParts",
    "affinity_field_parts",
    "binary_cross_entropy_parts",
    "cross_entropy_parts",
    "divergence_from_logits_parts",
    "iic_segmentation_loss",
    "jensen_shannon_mutual_information",
    "jensen_shannon_parts",
    "mutual_learning_parts",
    "region_mutual_information_parts",
    "region_vectors",
]
