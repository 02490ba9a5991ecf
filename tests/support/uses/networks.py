"""DeepLab forward, K-means learned, clusters matched with classes."""

import torch

from miseg.evaluation import match_clusters
from miseg.networks import build_network
from miseg.networks.configs import DeepLab

for version in ("v3", "v3+"):
    network = build_network(DeepLab(version=version, encoder="resnet18d"), 3, 4).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 64)).shape == (1, 4, 64, 64)
assert match_clusters(torch.tensor([[1, 9, 0], [8, 2, 0], [3, 0, 7]])).tolist() == [1, 0, 2]
