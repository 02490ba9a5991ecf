"""Names of what is measured, as they are logged, compared, tabulated and drawn. Nothing is imported.

In MLflow a score is `<split>/<score>`, such as `val/mean_iou`. Of clusters that were matched with the classes on the
training split it is `<split>/train_match/<score>`, of a class `<split>/iou/<class>`.
"""

from __future__ import annotations

MEAN_IOU = "mean_iou"
MICRO_IOU = "micro_iou"
PIXEL_ACCURACY = "pixel_accuracy"
BOUNDARY_IOU = "boundary_iou"
CLASS_IOU = "iou"
OBJECTIVE = "objective"
"""Objective that a method without labels raises in training: −loss, nats."""
OBJECTIVE_SINCE = "2026-11-30"
"""Day since which objectives on held-out images are what they are now: partners, views and samples are drawn by the
images' ids over the whole split, in other clips where these are known. Before, they depended on the order of the files.
A change of what an objective is has a new day here: scores of two days do not compare."""
OBJECTIVE_TAG = "miseg.objective_since"
"""Tag of a run, a tuning and a registered version whose scores are objectives: `OBJECTIVE_SINCE`; none: of before."""
CLUSTER_ENTROPY = "cluster_entropy"
UNUSED_CLUSTERS = "unused_clusters"
INFERENCE_SECONDS = "inference_seconds"
SECONDS_PER_IMAGE = "seconds_per_image"
"""Of the dense CRF."""

TRAIN_MATCH = "train_match"
"""Prefix of the scores of clusters whose match with the classes was made on the training split."""
TRAIN_MATCH_MEAN_IOU = f"{TRAIN_MATCH}/{MEAN_IOU}"
TRAIN_MATCH_PIXEL_ACCURACY = f"{TRAIN_MATCH}/{PIXEL_ACCURACY}"

VALIDATION_MEAN_IOU = f"val/{MEAN_IOU}"
VALIDATION_OBJECTIVE = f"val/{OBJECTIVE}"

OVERLAP_SCORES = (MEAN_IOU, MICRO_IOU, PIXEL_ACCURACY)
"""Scores of a confusion matrix, 0..1, higher is better."""

TITLES = {
    MEAN_IOU: "mean IoU",
    MICRO_IOU: "micro IoU",
    PIXEL_ACCURACY: "pixel accuracy",
    BOUNDARY_IOU: "boundary IoU",
    OBJECTIVE: "objective",
    INFERENCE_SECONDS: "inference seconds",
    TRAIN_MATCH_MEAN_IOU: "mean IoU, matched on train,",
    TRAIN_MATCH_PIXEL_ACCURACY: "pixel accuracy, matched on train,",
}
"""Titles of the metrics for people."""


def of_split(split: str, score: str) -> str:
    """A score's name in MLflow."""
    return f"{split}/{score}"


def validation_metric(selection: str) -> str:
    """The name in MLflow of what compares trials and checkpoints: `selection` is "labels" or "objective"."""
    return VALIDATION_OBJECTIVE if selection == "objective" else VALIDATION_MEAN_IOU
