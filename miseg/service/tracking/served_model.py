"""The code of a miseg model in MLflow, which travels with it: of miseg only `miseg.serving` may be imported here."""

from __future__ import annotations

import sys
from importlib import metadata, util
from pathlib import Path

import mlflow.models
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext
from packaging.version import Version


class ServedMethod(PythonModel):
    """Reads a checkpoint folder and predicts with the method it holds."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the model's `checkpoint` artifact, with the wheel beside it where no miseg is as new."""
        _make_importable(context.artifacts["miseg"])
        # Not before the line above.
        from miseg import serving

        self.predictor = serving.load(context.artifacts["checkpoint"])

    def predict(self, context: PythonModelContext, model_input: np.ndarray, params: dict | None = None) -> np.ndarray:
        """Probabilities [N, K, H, W] float32 of images [N, H, W, C] of the training's type."""
        return self.predictor.predict(model_input)


def _make_importable(wheel: str) -> None:
    """Let `import miseg` find the wheel, unless one is imported, is no older, or lies on the path uninstalled.

    A newer miseg opens the models of older ones, and a process that goes on to use it should have all of it.
    """
    if "miseg" in sys.modules:
        return
    spec = util.find_spec("miseg")
    # A mere folder of that name has no origin: an editable installation whose checkout is gone leaves one.
    if spec is not None and spec.origin is not None:
        try:
            installed = Version(metadata.version("miseg"))
        except metadata.PackageNotFoundError:
            return
        if installed >= Version(Path(wheel).name.split("-")[1]):
            return
    sys.path.insert(0, wheel)


mlflow.models.set_model(ServedMethod())
