"""The 40 tasks of the benchmark of Czyż et al. by their names there, as entries of the catalogue.

Czyż, Grabowski, Vogt, Beerenwinkel and Marx: Beyond normal: on the evaluation of mutual information estimators, NeurIPS
2023 (arXiv:2306.11078). The names are the identifiers of the authors' package `benchmark-mi` 0.1.3, whose own samplers
need JAX. Those here draw from the same distributions, in float64, by NumPy's generator: other samples for a seed.
"""

from __future__ import annotations

from typing import Any

_NORMAL, _STUDENT = "1v1-normal-0.75", "student-identity-{0}-{0}-{1}"
_DENSE, _SPARSE = "multinormal-dense-{0}-{0}-0.5", "multinormal-sparse-{0}-{0}-2-2.0"

Entry = tuple[str, dict[str, Any]]
"""("module:function" under `distributions`, its settings)."""


def _changed(name: str, of: str, by_x: str, by_y: str | None = None) -> dict[str, Entry]:
    settings = {"of": of, "by_x": by_x, "by_y": by_x if by_y is None else by_y}
    return {name: ("transforms:transformed_apart", settings)}


def _student(columns: int, degrees_of_freedom: int) -> dict[str, Entry]:
    settings = {"dims": (columns, columns), "correlation": 0.0, "degrees_of_freedom": degrees_of_freedom}
    return {_STUDENT.format(columns, degrees_of_freedom): ("elliptical:student", settings)}


def _tasks() -> dict[str, Entry]:
    uniform = f"normal_cdf-{_NORMAL}"
    tasks: dict[str, Entry] = {_NORMAL: ("elliptical:sparse_normal", {"dims": (1, 1), "correlation": 0.75})}
    tasks |= _changed(uniform, _NORMAL, "normal_cdf")
    tasks |= {f"1v1-additive-{half}": ("distribution:UniformNoise", {"epsilon": half}) for half in (0.1, 0.75)}
    tasks |= _changed("1v1-bimodal-0.75", _NORMAL, "bimodal_x", "bimodal_y")
    tasks |= _changed(f"wiggly-{_NORMAL}", _NORMAL, "wiggly_x", "wiggly_y")
    tasks |= _changed(f"half_cube-{_NORMAL}", _NORMAL, "half_cube")
    tasks |= _student(1, 1) | _changed("asinh-student-identity-1-1-1", _STUDENT.format(1, 1), "asinh")
    tasks |= _changed(f"swissroll_x-{uniform}", _NORMAL, "swiss_roll_21", "normal_cdf")
    for columns in (2, 3, 5, 25, 50):
        settings = {"dims": (columns, columns), "correlation": 0.5}
        tasks[_DENSE.format(columns)] = ("elliptical:dense_normal", settings)
    for columns in (2, 3, 5, 25):
        # The strength 2 of a latent column that both share: 2² / (1 + 2²).
        settings = {"dims": (columns, columns), "correlation": 0.8}
        tasks[_SPARSE.format(columns)] = ("elliptical:sparse_normal", settings)
    for columns, degrees_of_freedom in ((2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3)):
        tasks |= _student(columns, degrees_of_freedom)
    sparse = [_SPARSE.format(columns) for columns in (3, 5, 25)]
    for change in ("normal_cdf", "half_cube"):
        for base in sparse:
            tasks |= _changed(f"{change}-{base}", base, change)
    for base in (*sparse, *(f"normal_cdf-{base}" for base in sparse)):
        tasks |= _changed(f"spiral-{base}", base, "spiral", "spiral_y")
    for columns, degrees_of_freedom in ((2, 1), (3, 2), (5, 2)):
        base = _STUDENT.format(columns, degrees_of_freedom)
        tasks |= _changed(f"asinh-{base}", base, "asinh")
    return tasks


BMI_TASKS: dict[str, Entry] = _tasks()
"""Name -> entry of the catalogue, in the benchmark's order."""
