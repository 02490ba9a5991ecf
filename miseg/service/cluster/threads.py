"""Waiting policy of OpenMP's threads, in this process and its children: import before torch, which asks once."""

import os

# They spin while they wait for each other, and where one has no CPU the others wait for it: beside a single busy thread
# a training on four CPUs was eight times slower, and 1.3 times when its threads sleep instead.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
