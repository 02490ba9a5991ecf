"""A command line reads settings without waiting for torch, and so does what drives a run but does not train."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "module",
    [
        "miseg.methods",
        "miseg.methods.configs",
        "miseg.networks",
        "miseg.recipes.experiment",
        "miseg.service.command.start",
        "miseg.service.tuning.tune",
    ],
)
def test_importing_settings_imports_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
