"""No estimate depends on the order in which the samples come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from miseg.information import ESTIMATORS, estimate
from miseg.information.labels import gaussian_label_bound, label_entropy

SAMPLES = 240
NEURAL: dict[str, Any] = {"hidden": (8,), "max_steps": 20, "check_every": 5, "batch_size": 16}
TRAINED = ("mine", "mine_f", "nwj", "jsd", "infonce", "smile", "doe", "latent_mi")
SETTINGS: dict[str, dict[str, Any]] = dict.fromkeys(TRAINED, NEURAL) | {
    # Fewer centres than samples, so that some are drawn.
    "mlmi": {"centres": 40},
    "lsmi": {"centres": 40},
}


def samples(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that depend on each other; integers for the estimator of these, and ties for that which is given noise."""
    rng = np.random.default_rng(0)
    x_ND = rng.standard_normal((SAMPLES, 2))
    y_ND = x_ND[:, :1] + 0.7 * rng.standard_normal((SAMPLES, 1))
    if name == "plug_in":
        return x_ND.round(), y_ND.round()
    if name == "ksg":
        y_ND = y_ND.round(1)
    return x_ND, y_ND


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimate_does_not_depend_on_the_order_of_the_samples(name: str) -> None:
    x_ND, y_ND = samples(name)
    expected = estimate(name, x_ND, y_ND, **SETTINGS.get(name, {}))
    for order in (np.arange(SAMPLES)[::-1], np.random.default_rng(1).permutation(SAMPLES)):
        reordered = estimate(name, x_ND[order], y_ND[order], **SETTINGS.get(name, {}))
        assert reordered == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert dict(reordered.details) == pytest.approx(dict(expected.details), rel=1e-9, abs=1e-9)


def test_bounds_of_labels_do_not_depend_on_the_order_of_the_samples() -> None:
    x_ND, y_ND = samples("plug_in")
    order = np.random.default_rng(1).permutation(SAMPLES)
    assert label_entropy(y_ND[order]) == pytest.approx(label_entropy(y_ND), rel=1e-12)
    expected = gaussian_label_bound(x_ND, y_ND)
    assert gaussian_label_bound(x_ND[order], y_ND[order]) == pytest.approx(expected, rel=1e-9)


def test_the_seed_still_draws() -> None:
    x_ND, y_ND = samples("mlmi")
    first, second = (estimate("mlmi", x_ND, y_ND, centres=40, seed=seed) for seed in (0, 1))
    assert first != second
