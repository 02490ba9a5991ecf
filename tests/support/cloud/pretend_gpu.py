"""For the workers of a pretend cluster, whose GPUs are a number: what would train on the GPU trains on the CPU."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from typing import Any


def use_the_cpu() -> None:
    """Ray's `worker_process_setup_hook`: hand miseg's training the CPU in place of the GPU that Ray gave it.

    Once the module is imported that trains: importing it here would cost every decoding process torch's seconds.
    """
    sys.meta_path.insert(0, _AfterImport())


class _AfterImport(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "miseg.service.training.worker":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        execute = spec.loader.exec_module

        def executed(module: Any) -> None:
            import torch

            execute(module)
            train = module.train
            module.train = lambda config, report, device, **rest: train(config, report, torch.device("cpu"), **rest)

        spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec
