"""Evaluation: what a segmentation is worth over a whole data set, and pictures of it (`miseg.evaluation.pictures`)."""

from miseg.evaluation.boundary import BoundaryIoU
from miseg.evaluation.calibration import CalibrationError
from miseg.evaluation.centerline import CenterlineDice
from miseg.evaluation.clusters import ClusterCounts, match_clusters
from miseg.evaluation.confusion import ConfusionMatrix, count_images
from miseg.evaluation.crf import DenseCRF, dense_crf
from miseg.evaluation.image_scores import ImageMeanIoU

__all__ = [
    "BoundaryIoU",
    "CalibrationError",
    "CenterlineDice",
    "ClusterCounts",
    "ConfusionMatrix",
    "DenseCRF",
    "ImageMeanIoU",
    "count_images",
    "dense_crf",
    "match_clusters",
]
