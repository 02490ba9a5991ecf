"""Names of what is measured, as they are logged, compared, tabulated and drawn.

In MLflow a score is `<split>/<score>`, such as `val/mean_iou`. Of clusters that were matched with the classes on the
training split it is `<split>/train_match/<score>`, of a class `<split>/iou/<class>`.
"""

from __future__ import annotations

import math

MEAN_IOU = "mean_iou"
MICRO_IOU = "micro_iou"
PIXEL_ACCURACY = "pixel_accuracy"
IMAGE_MEAN_IOU = "image_mean_iou"
"""Mean over images of each image's own mean IoU."""
WORST_CLASS_IOU = "worst_class_iou"
WORST_QUARTER_IOU = "worst_quarter_iou"
"""Mean IoU of the quarter of the classes, rounded up, whose IoU is lowest."""
BOUNDARY_IOU = "boundary_iou"
CALIBRATION_ERROR = "expected_calibration_error"
"""0..1, lower is better."""
MEAN_CLDICE = "mean_cldice"
CLASS_IOU = "iou"
CLASS_CLDICE = "cldice"
OBJECTIVE = "objective"
"""Objective that a method without labels raises in training: −loss, nats."""
OBJECTIVE_SINCE = "2026-11-30"
"""Day since which objectives on held-out images are what they are now: partners, views and samples are drawn by the
images' ids over the whole split, in other clips where these are known. Before, they depended on the order of the files.
A change of what an objective is has a new day here: scores of two days do not compare."""
OBJECTIVE_TAG = "miseg.objective_since"
"""Tag of a run, a tuning and a registered version whose scores are objectives: `OBJECTIVE_SINCE`; none: of before."""
LOSS = "loss"
"""Training loss of a method that learns from labels, in evaluation mode on all images of the split."""
CLUSTER_ENTROPY = "cluster_entropy"
UNUSED_CLUSTERS = "unused_clusters"
INFERENCE_SECONDS = "inference_seconds"
SECONDS_PER_IMAGE = "seconds_per_image"
"""Of the dense CRF."""

PANELS, CONFUSION = "panels", "confusion"
"""Pictures of a split, `<split>/panels`: images, truth and prediction; the confusion matrix."""

TRAIN_MATCH = "train_match"
"""Prefix of the scores of clusters whose match with the classes was made on the training split."""
TRAIN_MATCH_MEAN_IOU = f"{TRAIN_MATCH}/{MEAN_IOU}"
TRAIN_MATCH_PIXEL_ACCURACY = f"{TRAIN_MATCH}/{PIXEL_ACCURACY}"

VALIDATION_MEAN_IOU = f"val/{MEAN_IOU}"
VALIDATION_OBJECTIVE = f"val/{OBJECTIVE}"
VALIDATION_LOSS = f"val/{LOSS}"

OVERLAP_SCORES = (MEAN_IOU, MICRO_IOU, PIXEL_ACCURACY)
"""Scores of a confusion matrix, 0..1, higher is better."""

FURTHER_SCORES = (IMAGE_MEAN_IOU, WORST_CLASS_IOU, WORST_QUARTER_IOU, BOUNDARY_IOU, CALIBRATION_ERROR, MEAN_CLDICE)
"""Scores beside those of a confusion matrix, 0..1, that reports show where a run has them."""

TITLES = {
    MEAN_IOU: "mean IoU",
    MICRO_IOU: "micro IoU",
    PIXEL_ACCURACY: "pixel accuracy",
    IMAGE_MEAN_IOU: "image mean IoU",
    WORST_CLASS_IOU: "worst class IoU",
    WORST_QUARTER_IOU: "worst quarter IoU",
    BOUNDARY_IOU: "boundary IoU",
    CALIBRATION_ERROR: "calibration error",
    MEAN_CLDICE: "mean clDice",
    OBJECTIVE: "objective",
    INFERENCE_SECONDS: "inference seconds",
    TRAIN_MATCH_MEAN_IOU: "mean IoU, matched on train,",
    TRAIN_MATCH_PIXEL_ACCURACY: "pixel accuracy, matched on train,",
}
"""Titles of the metrics for people."""


def of_split(split: str, score: str) -> str:
    """A score's name in MLflow."""
    return f"{split}/{score}"


def scores_text(mean_iou: float, score: float) -> str:
    """A validation's scores in words: the mean IoU where there are labels, and what else checkpoints are compared by.

    Args:
        mean_iou: 0..1; nan without labels.
        score: the mean IoU, or an objective in nats; 0 where there is neither.
    """
    if math.isnan(mean_iou):
        return "no labels to score by" + (f"  objective {score:.4f}" if score else "")
    return f"mean_iou {mean_iou:.4f}" + ("" if score == mean_iou else f"  objective {score:.4f}")


def validation_metric(selection: str) -> str:
    """The name in MLflow of what compares trials and checkpoints: `selection` is "labels" or "objective"."""
    return VALIDATION_OBJECTIVE if selection == "objective" else VALIDATION_MEAN_IOU
