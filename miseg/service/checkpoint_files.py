"""The name by which models logged by miseg 0.1 import `checkpoints.checkpoint_files`; it stays for them."""

from miseg.service.checkpoints.checkpoint_files import verify

__all__ = ["verify"]
