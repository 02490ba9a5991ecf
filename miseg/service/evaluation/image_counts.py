"""Confusion matrices of single images as a Parquet file: who draws or ranks images needs no pixels."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from miseg.evaluation import ClusterCounts, ConfusionMatrix, ImageMeanIoU, match_clusters
from miseg.service.training.scoring import Counted

IMAGES_AT_ONCE = 256
"""Images whose confusion matrices are written together."""


def write_images(
    path: Path, image_counts: Counted, clusters: ClusterCounts | None, match_K: torch.Tensor | None
) -> None:
    """Write the images' confusion matrices as Parquet, one row an image.

    Columns: `id` and `counts`, the K * K counts of pixels with truth in rows, row by row, whose sum over images is the
    split's own matrix. Of clusters (in `clusters`, over all images) that is by the match made on these images; a third
    column, `counts_train_match`, is by `match_K`, where it was made on others.
    """
    own_K = None if clusters is None else match_clusters(clusters.counts)
    matches = {"counts": own_K} | ({} if own_K is None or match_K is None else {"counts_train_match": match_K})
    kinds = [pa.field("id", pa.string()), *(pa.field(name, pa.list_(pa.int64())) for name in matches)]
    with pq.ParquetWriter(path, pa.schema(kinds), compression="zstd") as file:
        for start in range(0, len(image_counts), IMAGES_AT_ONCE):
            part = image_counts[start : start + IMAGES_AT_ONCE]
            columns = {
                name: [_matrix(counts, match).counts.flatten().tolist() for _, counts in part]
                for name, match in matches.items()
            }
            file.write_table(pa.table({"id": [name for name, _ in part]} | columns, pa.schema(kinds)))


def _matrix(counts: ConfusionMatrix | ClusterCounts, match_K: torch.Tensor | None) -> ConfusionMatrix:
    if isinstance(counts, ConfusionMatrix):
        return counts
    assert match_K is not None
    return counts.matched(match_K)


def image_mean_iou(image_counts: Counted, num_classes: int, match_K: torch.Tensor | None) -> ImageMeanIoU:
    """Mean IoU of single images; of clusters, by the class that `match_K` gives each."""
    images = ImageMeanIoU(num_classes)
    for _, counts in image_counts:
        images.add(_matrix(counts, match_K).counts[None])
    return images
