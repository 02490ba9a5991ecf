"""Models that an earlier miseg logged predict what they did: `serving.py FOLDER_OF_LOGGED_MODELS`."""

import sys
from pathlib import Path

import numpy as np

from miseg import serving

folder = Path(sys.argv[1])
for name in ("region_mutual_information", "k_means"):
    recorded = np.load(folder / f"{name}_prediction.npz")
    model = serving.load(folder / name / "artifacts" / "checkpoint", "cpu")
    predicted = model.predict(recorded["images"])
    np.testing.assert_allclose(predicted, recorded["probabilities"], rtol=1e-4, atol=1e-6)
