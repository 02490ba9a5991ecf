"""Speed as ratios measured side by side in one run; nothing here judges, it only reports.

A row compares variants on the same work, in alternating repetitions, so that a machine whose speed drifts shifts both.
"""

from __future__ import annotations

from collections.abc import Callable

from miseg.service.benchmarks import crf, data, losses, methods, steps, trials
from miseg.service.benchmarks import loop as loop_benchmark
from miseg.service.benchmarks.rows import BenchmarkRow

ROWS: dict[str, Callable[..., BenchmarkRow]] = {
    "data-path": data.data_path,
    "data-path-cached": data.data_path_cached,
    "data-memory": data.data_memory,
    "step": steps.step,
    "step-memory": steps.step_memory,
    "accumulate": steps.accumulate,
    "accumulate-memory": steps.accumulate_memory,
    "average": steps.average,
    "compile": steps.compiled,
    "loop": loop_benchmark.loop,
    "scaling": loop_benchmark.scaling,
    "trial": trials.trial,
    "loss": losses.loss,
    "loss-beside-bce": losses.loss_beside_bce,
    "loss-plain": losses.plain_loss,
    "loss-plain-beside-bce": losses.plain_loss_beside_bce,
    "loss-memory": losses.loss_memory,
    "cwmi": losses.wavelet_loss,
    "cwmi-plain": losses.plain_wavelet_loss,
    "mutual-learning": methods.mutual_learning,
    "iic": methods.invariant_information,
    "crf": crf.crf,
    "map": methods.maps,
    "scene": methods.scene,
    "scene-terms": methods.scene_terms,
    "scene-terms-13": methods.scene_terms_13,
    "scene-memory": methods.scene_memory,
}
"""Every row by the name that selects it."""

STEPS = dict.fromkeys(ROWS, 1) | {
    "data-path": 300,
    "data-path-cached": 1000,
    "data-memory": 460,
    "step": 10,
    "step-memory": 2,
    "accumulate": 10,
    "average": 10,
    "compile": 10,
    "loop": 40,
    "scaling": 10,
    "trial": 20,
    "loss": 5,
    "loss-beside-bce": 5,
    "loss-plain": 5,
    "loss-plain-beside-bce": 5,
    "cwmi": 5,
    "cwmi-plain": 3,
    "mutual-learning": 4,
}
"""Steps that a repetition of a row takes unless told otherwise."""
