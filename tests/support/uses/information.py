"""Estimators of two kinds, by neighbours and by a network, on a normal distribution whose information is known."""

import math

import numpy as np

from miseg.information import DISTRIBUTIONS, ESTIMATORS, estimate

generator = np.random.default_rng(0)
x, noise = generator.normal(size=(2, 2000, 1))
y = 0.9 * x + math.sqrt(1 - 0.9**2) * noise
truth = -0.5 * math.log(1 - 0.9**2)
assert abs(float(estimate("ksg", x, y)) - truth) < 0.1
assert abs(float(estimate("infonce", x, y, max_steps=300)) - truth) < 0.3
assert all(callable(ESTIMATORS[name]) for name in ESTIMATORS)
assert all(DISTRIBUTIONS[name] is not None for name in DISTRIBUTIONS)
