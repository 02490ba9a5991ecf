"""`miseg.load`: a trained model from Python, and what it predicts."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from miseg.extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from miseg.recipes.experiment import Experiment
    from miseg.service.mapping.predictor import MapPredictor, OpenedImage


@dataclass(frozen=True, eq=False)
class Prediction:
    """Prediction for an image; `numpy.asarray` makes its labels of it.

    Attributes:
        labels: the class of each pixel, uint8 [H, W]; 255 where the image has no data.
        probabilities: of each class, float32 [K, H, W] in 0..1.
        confidence: (p₁ − p₂) / (p₁ + p₂) of the two best classes, float32 [H, W] in 0..1.
        class_names: K names; of clusters that no label matched with classes, "cluster 0" and so on.
        colours: K (red, green, blue) in 0..255.
    """

    labels: NDArray[np.uint8] = field(repr=False)
    probabilities: NDArray[np.float32] = field(repr=False)
    confidence: NDArray[np.float32] = field(repr=False)
    class_names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...] = field(repr=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.labels, dtype=dtype) if copy else np.asarray(self.labels, dtype=dtype)

    def plot(self, image: np.ndarray | None = None) -> Figure:
        """The map in the classes' colours, beside the image where it is given."""
        # Only now: it brings the extra's packages along.
        from miseg.api import figures

        return figures.picture(image, self.labels, list(self.colours), self.class_names)


class SegmentationModel:
    """A trained model that maps images from their pixels alone.

    Args:
        folder: its checkpoint, which may go away afterwards.
        device: where it computes; None: the first GPU, or the CPU.

    Attributes:
        class_names: K names.
        colours: K (red, green, blue) in 0..255.
        channels: of its images.
        dtype: of its images' pixels: "uint8", "uint16" or "float32".
        experiment: what was trained.

    Raises:
        ValueError: a few-label method, which maps from labelled pixels.
        CheckpointError: (a ValueError) a damaged checkpoint.
    """

    def __init__(self, folder: Path, device: str | None = None) -> None:
        # Only now: they bring the extra's packages along.
        import torch

        from miseg.service.checkpoints import checkpoint_files
        from miseg.service.mapping.predictor import MapPredictor

        self.experiment: Experiment = checkpoint_files.read_experiment(folder)
        if self.experiment.takes_labelled_pixels:
            raise ValueError(
                f"{type(self.experiment.method).__name__} maps from labelled pixels: use miseg segment with --scene "
                "and --labels, or miseg annotate"
            )
        self._on_gpu = torch.cuda.is_available() if device is None else torch.device(device).type == "cuda"
        self._predictor: MapPredictor = MapPredictor(
            folder, torch.device(device or ("cuda" if self._on_gpu else "cpu"))
        )
        self.class_names, self.colours = self._predictor.class_names, self._predictor.colours
        self.channels, self.dtype = self._predictor.channels, self._predictor.stored.dtype

    def __repr__(self) -> str:
        return (
            f"SegmentationModel({type(self.experiment.method).__name__}, {len(self.class_names)} classes, images "
            f"[H, W, {self.channels}] of {self.dtype})"
        )

    def predict(self, image: np.ndarray | str | Path, *, tile: int = 512, overlap: int = 64) -> Prediction:
        """Prediction for an image of any size, the same as that of `miseg segment --images`.

        The model sees the image as it saw those of its training: resized as they were, standardised by their moments;
        what it gives is resized back. Nothing is scaled on a guess: another type or range is refused.

        Args:
            image: pixels [H, W, C] of the model's `dtype` and `channels`, not standardised, red first; [H, W] of one
                channel, which a model of three 8-bit channels takes as grey; or the path of a PNG, JPEG or TIFF file.
            tile: pixels of a side of the tiles into which a larger image is cut, a multiple of 16.
            overlap: pixels that neighbouring tiles share at least.

        Raises:
            ValueError: another type or number of channels, no such file, or a damaged one.
        """
        # Only now: they bring the extra's packages along.
        from miseg.data.raster.pictures import ArrayPicture
        from miseg.data.raster.scene_files import SceneOptions
        from miseg.evaluation.tiled import Tiling

        predictor, tiling = self._predictor, Tiling(tile, overlap, 8 if self._on_gpu else 1)
        if isinstance(image, str | Path):
            with predictor.open(Path(image).expanduser(), SceneOptions()) as opened_image:
                return self._predicted(opened_image, tiling)
        picture = ArrayPicture(np.asarray(image), self.channels, predictor.stored)
        return self._predicted(predictor.seen(picture), tiling)

    def _predicted(self, opened_image: OpenedImage, tiling: Any) -> Prediction:
        # Only now: they bring the extra's packages along.
        from miseg.evaluation.tiled import blended, decided, enlarged

        height, width = opened_image.grid.height, opened_image.grid.width
        labels = np.empty((height, width), np.uint8)
        confidence = np.empty((height, width), np.float32)
        probabilities = np.empty((len(self.class_names), height, width), np.float32)
        pieces = blended(opened_image.size, opened_image.read, self._predictor, self._predictor.tiling(tiling))
        for piece in enlarged(pieces, opened_image.size, (height, width)):
            row, column, rows, columns = piece.window
            part = slice(row, row + rows), slice(column, column + columns)
            labels[part], confidence[part] = decided(piece.probabilities_KHW, piece.valid_HW)
            probabilities[(slice(None), *part)] = piece.probabilities_KHW.cpu().numpy()
        return Prediction(labels, probabilities, confidence, self.class_names, self.colours)


def load(
    model: str | Path,
    *,
    role: Literal["best", "last"] = "best",
    storage: str | None = None,
    device: str | None = None,
) -> SegmentationModel:
    """Open a trained model.

    Args:
        model: runs:/ID, or the id of an MLflow run alone; models:/NAME@best or models:/NAME/VERSION, a registered
            model; or the folder of a checkpoint.
        role: which of a run's two models: of its best validation, or of its last.
        storage: folder or URI of the storage, which has the runs where $MLFLOW_TRACKING_URI names no server. Default:
            $MISEG_STORAGE, else ~/miseg.
        device: where it computes, such as "cpu" or "cuda:1". Default: the first GPU, or the CPU.

    Raises:
        ValueError: no such model, a damaged one, or one of a few-label method.
        TrackingError: (a RuntimeError) MLflow does not answer, or holds no such model.
        MissingExtraError: (a ModuleNotFoundError) the extra 'service' is not installed.
    """
    require("service", "miseg.load", "mlflow", "pandas", "ray", "tyro")
    # Only now: they bring the extra's packages along.
    from miseg.service.command.options import JobOptions

    return opened(str(model), role, JobOptions(storage=storage).root, device=device)


def opened(
    model: str, role: Literal["best", "last"], storage: str, tracking_uri: str | None = None, device: str | None = None
) -> SegmentationModel:
    """The model that `load` opens; of the MLflow at `tracking_uri`, where that is known."""
    # Only now: they bring the extra's packages along.
    from miseg.service.tracking import models

    with tempfile.TemporaryDirectory() as beside:
        if tracking_uri is not None and (run_id := models.run_of(model)) is not None:
            folder = models.download(tracking_uri, run_id, role, beside)
        else:
            folder = models.folder_of(model, role, storage, False, Path(beside))
        return SegmentationModel(folder, device)
