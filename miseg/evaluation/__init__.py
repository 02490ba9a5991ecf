"""Evaluation: what a segmentation is worth over a whole data set, and pictures of it (`miseg.evaluation.pictures`)."""

from miseg.evaluation.boundary import BoundaryIoU
from miseg.evaluation.clusters import ClusterCounts, match_clusters
from miseg.evaluation.confusion import ConfusionMatrix
from miseg.evaluation.crf import DenseCRF, dense_crf

__all__ = ["BoundaryIoU", "ClusterCounts", "ConfusionMatrix", "DenseCRF", "dense_crf", "match_clusters"]
