"""Evaluation: what a segmentation is worth over a whole data set, and pictures of it (`miseg.evaluation.pictures`)."""

from miseg.evaluation.confusion import ConfusionMatrix

__all__ = ["ConfusionMatrix"]
