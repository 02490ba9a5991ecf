"""The code of a miseg model in MLflow, which travels with it: only `miseg.serving` may be imported here."""

from __future__ import annotations

import mlflow.models
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext

from miseg import serving


class ServedMethod(PythonModel):
    """Reads a checkpoint folder and predicts with the method it holds."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the model's `checkpoint` artifact."""
        self.predictor = serving.load(context.artifacts["checkpoint"])

    def predict(self, context: PythonModelContext, model_input: np.ndarray, params: dict | None = None) -> np.ndarray:
        """Probabilities [N, K, H, W] float32 of uint8 images [N, H, W, C]."""
        return self.predictor.predict(model_input)


mlflow.models.set_model(ServedMethod())
