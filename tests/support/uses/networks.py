"""DeepLab and a U-Net on an encoder of timm forward, K-means learned, clusters matched with classes."""

import torch

from miseg.evaluation import match_clusters
from miseg.networks import build_network
from miseg.networks.configs import DeepLab, EncoderDecoder

for config in (DeepLab("v3", "resnet18d"), DeepLab("v3+", "resnet18d"), EncoderDecoder("unet", "test_resnet")):
    network = build_network(config, 3, 4).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 64)).shape == (1, 4, 64, 64)
assert match_clusters(torch.tensor([[1, 9, 0], [8, 2, 0], [3, 0, 7]])).tolist() == [1, 0, 2]
