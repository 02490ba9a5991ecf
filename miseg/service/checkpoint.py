"""The name by which models logged by miseg 0.1 import `checkpoints.checkpoint`; it stays for them."""

from miseg.service.checkpoints.checkpoint import open_method

__all__ = ["open_method"]
