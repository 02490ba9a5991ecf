"""A trained model as whoever serves it sees it: uint8 images in, class probabilities out.

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
        self._mean = torch.tensor(data["mean"], device=device).view(1, -1, 1, 1)
        self._std = torch.tensor(data["std"], device=device).view(1, -1, 1, 1)

    @torch.no_grad()
    def predict(self, images_NHWC: np.ndarray) -> np.ndarray:
        """Probabilities [N, K, H, W], float32 in 0..1, of uint8 images [N, H, W, C] with the bands of the training."""
        images_NCHW = torch.as_tensor(np.ascontiguousarray(images_NHWC), device=self._mean.device).permute(0, 3, 1, 2)
        probabilities = self._method.predict((images_NCHW.float() / 255 - self._mean) / self._std).float()
        if self._match is not None:
            probabilities = of_classes(probabilities, self._match, self._num_classes)
        return probabilities.cpu().numpy()
