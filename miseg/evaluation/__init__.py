"""Evaluation: what a segmentation is worth over a whole data set, and pictures of it (`miseg.evaluation.pictures`)."""

from miseg.evaluation.boundary import BoundaryIoU
from miseg.evaluation.confusion import ConfusionMatrix
from miseg.evaluation.crf import DenseCRF, dense_crf

__all__ = ["BoundaryIoU", "ConfusionMatrix", "DenseCRF", "dense_crf"]
