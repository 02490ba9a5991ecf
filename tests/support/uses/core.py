"""The losses, and a step of a method on a U-Net, with PyTorch and NumPy alone."""

import torch

from miseg.interface import Batch, Task
from miseg.losses import RegionMutualInformationLoss
from miseg.methods import METHODS, build_method
from miseg.methods.configs import RegionMutualInformation
from miseg.networks.configs import UNet

torch.manual_seed(0)
labels = torch.randint(0, 5, (2, 32, 32))
logits = torch.randn(2, 5, 32, 32, requires_grad=True)
RegionMutualInformationLoss(num_classes=5)(logits, labels).backward()
assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad.abs().sum() > 0

assert all(method.__module__.startswith("miseg.methods.") for method in METHODS.values())
method = build_method(RegionMutualInformation(network=UNet(4)), Task(5))
batch = Batch(torch.rand(2, 3, 32, 32), labels, ("a", "b"))
optimiser = torch.optim.Adam(method.param_groups(1e-2))
losses = []
for _ in range(5):
    optimiser.zero_grad()
    loss = method(batch).loss()
    loss.backward()
    optimiser.step()
    losses.append(loss.item())
assert losses[-1] < losses[0], losses
assert method.eval().predict(batch.images_NCHW).shape == (2, 5, 32, 32)
