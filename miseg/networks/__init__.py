"""Networks: images in, logits out. Torch is imported when a network is built, not with this package."""

from miseg.networks import configs  # noqa: F401  (registers miseg's own)
from miseg.networks.registry import Network, build_network, register_network

__all__ = ["Network", "build_network", "register_network"]
