"""A line with a gap has lost a part of its length."""

import numpy as np

from miseg.evaluation import CenterlineDice

truth = np.zeros((1, 20, 60), int)
truth[0, 9:12] = 1
prediction = truth.copy()
prediction[0, :, 20:35] = 0
measured = CenterlineDice((1,))
measured.update(prediction, truth)
assert 0.8 < measured.mean() < 0.9
