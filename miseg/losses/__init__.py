"""Losses: tensors in, a scalar out. Nothing here knows of networks, methods or trainers."""

from miseg.losses.information.complex_wavelet import complex_wavelet_mutual_information_parts
from miseg.losses.information.divergence import divergence_from_logits_parts, mutual_learning_parts
from miseg.losses.information.invariant_information import (
    iic_loss_of_tables,
    iic_segmentation_loss,
    iic_tables,
)
from miseg.losses.information.jensen_shannon import jensen_shannon_mutual_information, jensen_shannon_parts
from miseg.losses.information.region_mutual_information import (
    RegionMutualInformationLoss,
    RegionMutualInformationParts,
    region_mutual_information_parts,
    region_vectors,
)
from miseg.losses.mixed import MixedLoss
from miseg.losses.overlap.jaccard import jaccard_parts
from miseg.losses.overlap.lovasz import lovasz_softmax_parts
from miseg.losses.overlap.tversky import tversky_parts
from miseg.losses.pixels.binary_cross_entropy import binary_cross_entropy_parts
from miseg.losses.pixels.cross_entropy import cross_entropy_parts
from miseg.losses.pixels.focal import focal_parts
from miseg.losses.shapes.affinity_field import AffinityFieldLoss, AffinityFieldParts, affinity_field_parts
from miseg.losses.shapes.boundary import boundary_parts
from miseg.losses.shapes.cl_dice import cl_dice_parts

__all__ = [
    "AffinityFieldLoss",
    "AffinityFieldParts",
    "MixedLoss",
    "RegionMutualInformationLoss",
    "RegionMutualInformationParts",
    "affinity_field_parts",
    "binary_cross_entropy_parts",
    "boundary_parts",
    "cl_dice_parts",
    "complex_wavelet_mutual_information_parts",
    "cross_entropy_parts",
    "divergence_from_logits_parts",
    "focal_parts",
    "iic_loss_of_tables",
    "iic_segmentation_loss",
    "iic_tables",
    "jaccard_parts",
    "jensen_shannon_mutual_information",
    "jensen_shannon_parts",
    "lovasz_softmax_parts",
    "mutual_learning_parts",
    "region_mutual_information_parts",
    "region_vectors",
    "tversky_parts",
]
