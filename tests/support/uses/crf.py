"""Isolated pixels take the class of those around them."""

import numpy as np

from miseg.evaluation.crf import available, dense_crf

assert available()
truth = np.repeat([0, 1], [10, 10])[None].repeat(16, 0)
image = np.where(truth[..., None] == 1, [200, 60, 40], [30, 90, 160]).astype(np.uint8)
sure = np.where(np.random.default_rng(0).random(truth.shape) < 0.15, 0.35, 0.65)
probabilities = np.stack([np.where(truth == label, sure, 1 - sure) for label in range(2)])
assert (probabilities.argmax(0) != truth).any()
smooth = dense_crf(image, probabilities)
assert smooth.shape == (2, 16, 20) and (smooth.argmax(0) == truth).all()
