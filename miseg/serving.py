"""A trained model as whoever serves it sees it: images in, class probabilities out.

Models in MLflow import this module, and it neither moves nor changes its names: `docs/extending.md` lists what stays.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from miseg.evaluation.clusters import of_classes
from miseg.service.checkpoints import checkpoint, checkpoint_files

__all__ = ["Predictor", "load"]


def load(folder: str | Path, device: str | torch.device | None = None) -> Predictor:
    """The model of a checkpoint folder, ready to predict.

    Args:
        folder: a checkpoint, such as `artifacts/checkpoint` of a model in MLflow.
        device: where it computes; default: the first GPU, or the CPU.

    Raises:
        CheckpointError: (a ValueError) no checkpoint, or one of its files is missing or altered.
    """
    return Predictor(folder, device or ("cuda" if torch.cuda.is_available() else "cpu"))


class Predictor:
    """Predicts class probabilities; clusters stand for the classes that they were matched with in the checkpoint.

    Attributes:
        class_names: name of each class.
    """

    def __init__(self, folder: str | Path, device: str | torch.device) -> None:
        manifest = checkpoint_files.verify(folder)
        self._method, _, task = checkpoint.open_method(folder, device)
        data = manifest["data"]
        self.class_names = task.class_names
        self._num_classes = task.num_classes
        self._match = torch.tensor(data["match"], device=device) if "match" in data else None
        self._dtype = np.dtype(data.get("dtype", "uint8"))
        self._full_scale, self._nodata = data.get("full_scale", 255), data.get("nodata")
        self._mean = torch.tensor(data["mean"], device=device).view(1, -1, 1, 1)
        self._std = torch.tensor(data["std"], device=device).view(1, -1, 1, 1)

    @torch.no_grad()
    def predict(self, images_NHWC: np.ndarray) -> np.ndarray:
        """Probabilities [N, K, H, W], float32 in 0..1.

        Args:
            images_NHWC: [N, H, W, C] with the bands and of the type of the training's images: uint8, uint16 or float32.

        Raises:
            ValueError: of another type.
        """
        if images_NHWC.dtype != self._dtype:
            raise ValueError(f"images of type {images_NHWC.dtype}: the model was trained on {self._dtype}")
        images_NCHW = torch.as_tensor(np.ascontiguousarray(images_NHWC), device=self._mean.device).permute(0, 3, 1, 2)
        values_NCHW = (images_NCHW.float() / self._full_scale - self._mean) / self._std
        if self._nodata is not None:
            values_NCHW[torch.as_tensor(images_NHWC == self._nodata).all(3)[:, None].expand_as(values_NCHW)] = 0
        probabilities = self._method.predict(values_NCHW).float()
        if self._match is not None:
            probabilities = of_classes(probabilities, self._match, self._num_classes)
        return probabilities.cpu().numpy()
