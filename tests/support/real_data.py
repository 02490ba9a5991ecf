"""The real data sets that MISEG_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def real_data(folder: str = "") -> Path:
    """The folder of real data, or one in it; without MISEG_DATA the test is skipped, and fails where CI=true."""
    if not os.environ.get("MISEG_DATA"):
        message = f"MISEG_DATA is not set: it names the folder that holds the real {folder or 'data sets'}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return Path(os.environ["MISEG_DATA"]) / folder
