"""What all estimators promise: float in nats, bad input named, symmetry, and an import that costs nothing."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from miseg.information import DISTRIBUTIONS, ESTIMATORS, Estimate, estimate

NEURAL = ("mine", "mine_f", "nwj", "jsd", "infonce", "smile", "doe", "latent_mi")
QUICK = {"hidden": (16,), "batch_size": 32, "learning_rate": 2e-2, "max_steps": 40, "check_every": 20}
CLOSED = ["gaussian", "cca", "edgeworth", "kde", "histogram", "plug_in", "ksg"]


FEW = {"centres": 50, "folds": 2}


def run(name: str, x: object, y: object) -> Estimate:
    quick = QUICK if name in NEURAL else FEW if name in ("mlmi", "lsmi") else {}
    return estimate(name, x, y, **quick)


def samples_for(name: str, samples: int = 300) -> tuple[np.ndarray, np.ndarray]:
    return DISTRIBUTIONS["table-3x4" if name == "plug_in" else "normal-1x1-0.75"].sample(samples, 0)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_returns_a_float_that_pickles_with_its_details(name: str) -> None:
    found = run(name, *samples_for(name))
    assert isinstance(found, Estimate) and isinstance(found, float) and math.isfinite(found)
    assert 0.05 < found < 0.8
    copy = pickle.loads(pickle.dumps(found))
    assert copy == found and copy.trace == found.trace and copy.details == found.details
    assert bool(found.trace) == (name in NEURAL)
    assert ESTIMATORS[name].__doc__ and ESTIMATORS[name].__name__.startswith(name)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_takes_lists_and_tensors_and_one_axis(name: str) -> None:
    x, y = samples_for(name)
    expected = run(name, x, y)
    assert run(name, x[:, 0].tolist(), torch.from_numpy(y)) == expected


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (lambda x, y: (x[:-1], y), ValueError, "x has 299 samples and y 300: they are drawn in pairs"),
        (
            lambda x, y: (x, np.where(y == y[7], np.nan, y)),
            ValueError,
            "y holds .* nan or infinite, the first in sample",
        ),
        (lambda x, y: (np.where(x == x[0], np.inf, x), y), ValueError, "x holds .* the first in sample 0"),
        (lambda x, y: (x[:1], y[:1]), ValueError, "1 samples: at least 2"),
        (lambda x, y: (x[:, None], y), ValueError, r"x of shape \(300, 1, 1\): expected \[N\] or \[N, D\]"),
        (lambda x, y: (x[:, :0], y), ValueError, r"x of shape \(300, 0\)"),
        (lambda x, y: (x, y.astype(complex)), TypeError, "y of type complex128: expected real numbers"),
        (lambda x, y: (x.astype(str), y), TypeError, "x of type <U"),
    ],
)
def test_bad_samples_are_named(name: str, change, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        run(name, *change(*samples_for(name)))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_too_few_samples_are_named_or_estimated(name: str) -> None:
    x, y = samples_for(name, 3)
    if name == "plug_in":
        assert math.isfinite(estimate(name, x, y))
        return
    with pytest.raises(ValueError, match="3 samples"):
        estimate(name, x, y)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_constant_columns_tell_nothing(name: str) -> None:
    x, y = samples_for(name)
    seven = np.full_like(x, 7)
    assert run(name, seven, y) == pytest.approx(0, abs=1e-12)
    assert run(name, np.hstack((x, seven)), y) == pytest.approx(run(name, x, y), abs=1e-12)


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "plug_in"])
def test_extreme_scales_repeated_rows_and_outliers_give_a_number(name: str) -> None:
    x, y = samples_for(name)
    expected = run(name, x, y)
    # Rounding turns a few of the neighbours that latent_mi counts: 0.02 nats of 150 samples held out.
    near = 0.05 if name == "latent_mi" else 0.01
    assert run(name, 1e300 * x, 1e-300 * y - 1e-297) == pytest.approx(expected, abs=near)
    far = x.copy(), y.copy()
    far[0][5], far[1][5] = 1e12, -1e12
    repeated = [np.repeat(values[:30], 10, axis=0) for values in (x, y)]
    labels = (x > 0).astype(int), (y > 0).astype(int)
    for pair in (far, repeated, labels):
        assert math.isfinite(run(name, *pair))


@pytest.mark.parametrize("name", CLOSED)
def test_order_of_samples_and_of_x_and_y_changes_nothing(name: str) -> None:
    x, y = samples_for(name)
    expected = run(name, x, y)
    order = np.random.default_rng(0).permutation(len(x))
    assert run(name, x[order], y[order]) == pytest.approx(expected, abs=1e-9)
    assert run(name, y, x) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["mlmi", "lsmi"])
def test_order_of_samples_and_of_x_and_y_does_not_change_what_is_drawn(name: str) -> None:
    x, y = samples_for(name, 600)
    expected = run(name, x, y)
    order = np.random.default_rng(0).permutation(len(x))
    assert run(name, x[order], y[order]) == pytest.approx(expected, abs=1e-6)
    assert run(name, y, x) == pytest.approx(expected, abs=1e-6)


def test_names_and_settings_that_do_not_exist_are_named_with_those_that_do() -> None:
    x, y = samples_for("ksg", 20)
    with pytest.raises(ValueError, match=r"no estimator 'knn'; docs/information.md lists them"):
        estimate("knn", x, y)
    with pytest.raises(TypeError, match="'ksg' has no setting k; it has neighbours=3, form=1"):
        estimate("ksg", x, y, k=3)
    with pytest.raises(TypeError, match="'infonce' has no setting clip; it has critic='joint', hidden="):
        estimate("infonce", x, y, clip=5.0)
    with pytest.raises(KeyError):
        DISTRIBUTIONS["normal"]


def test_the_registries_are_read_only_and_keep_what_they_made() -> None:
    assert DISTRIBUTIONS["mixture-1x1-cross"] is DISTRIBUTIONS["mixture-1x1-cross"]
    assert ESTIMATORS["ksg"] is ESTIMATORS["ksg"] and len(ESTIMATORS) == 17 and "ksg" in repr(ESTIMATORS)
    with pytest.raises(TypeError):
        ESTIMATORS["ksg"] = ESTIMATORS["kde"]  # type: ignore[index]


def test_names_are_known_without_numpy_and_torch() -> None:
    code = (
        "import sys, miseg.information as room; 'ksg' in room.ESTIMATORS or sys.exit('no ksg');"
        "names = [*room.ESTIMATORS, *room.DISTRIBUTIONS];"
        "assert len(names) == len(set(names));print(sorted({'numpy', 'scipy', 'sklearn', 'torch'} & set(sys.modules)));"
        "room.estimate('ksg', [0.1, 0.5, 0.2, 0.9, 0.4], [0.2, 0.4, 0.1, 0.7, 0.5]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "[]\nFalse\n"), done.stderr
