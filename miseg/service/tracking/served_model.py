"""The code of a miseg model in MLflow: uint8 images in, class probabilities out.

Clusters stand for the classes that they were matched with when the checkpoint was taken.
"""

from __future__ import annotations

import mlflow.models
import numpy as np
import torch
from mlflow.pyfunc import PythonModel, PythonModelContext

from miseg.evaluation.clusters import of_classes
from miseg.service.checkpoints import checkpoint, checkpoint_files


class ServedMethod(PythonModel):
    """Reads a checkpoint folder and predicts with the method it holds."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the model's `checkpoint` artifact."""
        folder = context.artifacts["checkpoint"]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.method, _, _ = checkpoint.open_method(folder, device)
        manifest = checkpoint_files.verify(folder)
        data = manifest["data"]
        self.classes = manifest["task"]["num_classes"]
        self.match = torch.tensor(data["match"], device=device) if "match" in data else None
        self.mean = torch.tensor(data["mean"], device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(data["std"], device=device).view(1, -1, 1, 1)

    @torch.no_grad()
    def predict(self, context: PythonModelContext, model_input: np.ndarray, params: dict | None = None) -> np.ndarray:
        """Probabilities [N, K, H, W] float32 of uint8 images [N, H, W, C]."""
        images = torch.as_tensor(np.ascontiguousarray(model_input), device=self.mean.device).permute(0, 3, 1, 2)
        probabilities = self.method.predict((images.float() / 255 - self.mean) / self.std).float()
        if self.match is not None:
            probabilities = of_classes(probabilities, self.match, self.classes)
        return probabilities.cpu().numpy()


mlflow.models.set_model(ServedMethod())
