"""Maps that follow a person's labels: what a new label leaves as it was is kept, and computed once.

Of a date the features of its pixels are kept, and of every drawing its scores there, so that a click costs the
comparison with the pixels that it adds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from miseg.data.loading.tiles import StandardScene
from miseg.data.raster.grid import Window
from miseg.data.raster.scenes import Scene
from miseg.evaluation.tiled import decided
from miseg.methods.few.nearest import NearestLabelMethod
from miseg.service.labelling.byte_cache import ByteCache

FEATURE_BYTES = 2**30
"""Of features that are kept: 69 MB a date of 512x512 pixels by local information, with 64 hidden units."""

SCORE_BYTES = 2**29
"""Of scores that are kept: 1 MB a drawing and date of 512x512 pixels."""

CHUNK_BYTES = 2**26
"""Of scores that are computed at once; between two of them a map that nobody waits for is given up."""


class SupersededError(Exception):
    """Nobody waits for this map any more."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Pixels of one class on one scene that come and go together: those of a drawing.

    Attributes:
        scene: its name among the scenes.
        label: the class, 0..K-1.
        rows: int64 [n], from the scene's top.
        columns: int64 [n], from its left.
    """

    scene: str
    label: int
    rows: np.ndarray
    columns: np.ndarray

    @property
    def pixels(self) -> Hashable:
        """Key of these pixels, for caches."""
        return self.scene, self.rows.tobytes(), self.columns.tobytes()


@dataclass(frozen=True)
class LabelMap:
    """A map of the window.

    Attributes:
        classes: uint8 [h, w], 255 on clouds and nodata.
        confidence: float32 [h, w], 0..1.
        whole: whether every labelled pixel was compared; else those of large drawings were thinned out.
        seconds: that it took to compute.
    """

    classes: np.ndarray
    confidence: np.ndarray
    whole: bool
    seconds: float


@dataclass(frozen=True)
class _Prepared:
    features: Tensor
    score: Callable[[Tensor, Tensor], Tensor]
    inner: tuple[slice, slice]
    """Rows and columns of the window in the scores."""
    seconds: float
    """Seconds that a comparison with one labelled pixel takes."""


class MapMaker:
    """Maps one window of several scenes by a method; one map at a time, for whoever asks.

    Args:
        method: knows how pixels are compared.
        scenes: by name.
        window: what is mapped, in pixels of the scenes' grid.
        device: where it computes.
    """

    def __init__(
        self, method: NearestLabelMethod, scenes: Mapping[str, Scene], window: Window, device: torch.device
    ) -> None:
        self.method, self.scenes, self.window, self.device = method, scenes, window, device
        self._standard: dict[str, StandardScene] = {}
        self._valid: dict[str, np.ndarray] = {}
        self._features: ByteCache[_Prepared] = ByteCache(FEATURE_BYTES)
        self._scores: ByteCache[Tensor] = ByteCache(SCORE_BYTES)
        self._patches: ByteCache[Tensor] = ByteCache(SCORE_BYTES // 4)
        self._computing = threading.Lock()
        self._waiting: set[object] = set()

    def make(
        self,
        scene: str,
        compare: str,
        labelled: Sequence[Labelled],
        classes: int,
        *,
        seconds: float | None = None,
        superseded: Callable[[], bool] = lambda: False,
    ) -> LabelMap:
        """The map of a scene, with the classes that `segment.map_window` gives; of `seconds` at most, as far as known.

        Args:
            scene: which.
            compare: one of the method's comparisons.
            labelled: labelled pixels, of this scene and of others.
            classes: K, 2 or more, each with a labelled pixel.
            seconds: for comparisons; where they take longer, large drawings are thinned out. None: as long as it takes.
            superseded: whether the map is of no use any more.

        Raises:
            ValueError: no valid pixel in the scene, it is smaller than a patch, or as `Scene.read`.
            SupersededError: `superseded` said so.
        """
        request = object()
        self._waiting.add(request)
        try:
            with self._computing:
                began = time.perf_counter()
                if superseded():
                    raise SupersededError
                prepared = self._prepared(scene, compare)
                # In their order: what is thinned out depends on it.
                unscored = dict.fromkeys(
                    drawing for drawing in labelled if (scene, compare, drawing.pixels) not in self._scores
                )
                needed_seconds = sum(len(drawing.rows) for drawing in unscored) * prepared.seconds
                compared, whole = list(labelled), seconds is None or needed_seconds <= seconds
                if seconds is not None and not whole:
                    scored = [drawing for drawing in labelled if drawing not in unscored]
                    compared = scored + _thinned([*unscored], int(seconds / prepared.seconds))
                self.method.task = replace(self.method.task, num_classes=classes, class_names=())
                best: list[Tensor | None] = [None] * classes
                for drawing in compared:
                    scores = self._scored(scene, compare, drawing, prepared, superseded, keep=whole)
                    best[drawing.label] = _nearest(best[drawing.label], scores, self.method.neighbours)
                best_of_label = [(label, scores) for label, scores in enumerate(best) if scores is not None]
                labels = torch.tensor([label for label, scores in best_of_label for _ in scores], device=self.device)
                probabilities = self.method.vote(torch.cat([scores for _, scores in best_of_label]), labels)
                predicted, confidence = decided(probabilities, torch.from_numpy(self.valid(scene)))
        finally:
            self._waiting.discard(request)
        return LabelMap(predicted, confidence, whole, time.perf_counter() - began)

    def prepare(self, scene: str, compare: str) -> bool:
        """Compute a scene's features before somebody asks for its map; whether they are kept now.

        Nothing is done while somebody waits for a map, nor where there is no more room.

        Raises:
            ValueError: as `make`.
        """
        if (scene, compare) in self._features:
            return True
        if self._waiting or self._features.used >= 0.8 * self._features.limit:
            return False
        with self._computing:
            self._prepared(scene, compare)
        return True

    def is_prepared(self, scene: str, compare: str) -> bool:
        """Whether the features of a scene are kept."""
        return (scene, compare) in self._features

    @property
    def full(self) -> bool:
        """Whether there is no room for the features of a further scene."""
        return self._features.used >= 0.8 * self._features.limit

    def standard(self, scene: str) -> StandardScene:
        """A scene with its statistics.

        Raises:
            ValueError: no valid pixel, or as `Scene.read`.
        """
        if scene not in self._standard:
            self._standard[scene] = StandardScene.measure(self.scenes[scene])
        return self._standard[scene]

    def valid(self, scene: str) -> np.ndarray:
        """Mask of the window's valid pixels, bool [h, w].

        Raises:
            ValueError: as `Scene.read`.
        """
        if scene not in self._valid:
            self._valid[scene] = self.scenes[scene].read(self.window)[1]
        return self._valid[scene]

    def _prepared(self, scene: str, compare: str) -> _Prepared:
        cached = self._features.get((scene, compare))
        if cached is not None:
            return cached
        tile = self.standard(scene).tile(self.window, self.method.patch // 2)
        image = torch.from_numpy(tile.images[0]).to(self.device)
        features, score = self.method.prepare(compare, image)
        patch = image.new_zeros(1, len(image), self.method.patch, self.method.patch)
        score(features, patch)
        began = time.perf_counter()
        score(features, patch)
        prepared = _Prepared(features, score, tile.inner, time.perf_counter() - began)
        self._features.put((scene, compare), prepared, features.nbytes)
        return prepared

    def _scored(
        self,
        scene: str,
        compare: str,
        labelled: Labelled,
        prepared: _Prepared,
        superseded: Callable[[], bool],
        *,
        keep: bool,
    ) -> Tensor:
        """The scores of the nearest labelled pixels of a drawing, [k, h, w], best first."""
        key = scene, compare, labelled.pixels
        nearest = self._scores.get(key)
        if nearest is not None:
            return nearest
        patches = self._cut(labelled)
        _, _, height, width = self.window
        for part in patches.split(max(1, CHUNK_BYTES // (4 * height * width))):
            if superseded():
                raise SupersededError
            scores = prepared.score(prepared.features, part)[:, *prepared.inner]
            nearest = _nearest(nearest, scores, self.method.neighbours)
        assert nearest is not None
        if keep:
            self._scores.put(key, nearest, nearest.nbytes)
        return nearest

    def _cut(self, labelled: Labelled) -> Tensor:
        patches_LCHW = self._patches.get(labelled.pixels)
        if patches_LCHW is None:
            standard = self.standard(labelled.scene)
            patches = standard.patches(labelled.rows, labelled.columns, self.method.patch)
            patches_LCHW = torch.from_numpy(patches).to(self.device)
            self._patches.put(labelled.pixels, patches_LCHW, patches_LCHW.nbytes)
        return patches_LCHW


def _nearest(best_so_far: Tensor | None, scores_LHW: Tensor, neighbours: int) -> Tensor:
    """The best of both, [k, h, w] with k up to `neighbours`, best first."""
    if neighbours == 1:
        best = scores_LHW.amax(0, keepdim=True)
        return best if best_so_far is None else torch.maximum(best_so_far, best)
    candidates = scores_LHW if best_so_far is None else torch.cat([best_so_far, scores_LHW])
    return candidates.topk(min(neighbours, len(candidates)), dim=0).values


def _thinned(labelled: Sequence[Labelled], pixels: int) -> list[Labelled]:
    """About `pixels` of the labelled pixels, at equal distances within each class and scene, at least one of each."""
    groups: dict[tuple[str, int], list[Labelled]] = {}
    for drawing in labelled:
        groups.setdefault((drawing.scene, drawing.label), []).append(drawing)
    per_group = max(1, pixels // len(groups))
    thinned = []
    for (scene, label), members in groups.items():
        rows, columns = (
            np.concatenate([getattr(drawing, name) for drawing in members]) for name in ("rows", "columns")
        )
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(per_group, len(rows))).round().astype(int))
        thinned.append(Labelled(scene, label, rows[chosen], columns[chosen]))
    return thinned
