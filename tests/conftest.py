"""What every test gets: one torch thread, and a home, a storage and an MLflow setting that are its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Processes that tests start can be interrupted, also where the tests run in the background of a shell.

    A shell starts `command &` with SIGINT ignored, and what is ignored is ignored by all that is started then.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that use `ray_here` come last, so that one Ray serves them all and no other test runs beside it."""
    using = {item.path for item in items if "ray_here" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path in using)


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test writes to the user's ~/miseg or to a server that the user works with, nor do the processes it starts."""
    with pytest.MonkeyPatch.context() as patch:
        # Caches stay where they are: a font list or a kernel built anew costs seconds.
        patch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"))
        patch.setenv("XDG_CONFIG_HOME", os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config"))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("MISEG_STORAGE", str(tmp_path_factory.mktemp("storage")))
        patch.setenv("MISEG_STATE_KEY", "the-key-of-the-tests-" + "0" * 32)
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """On tensors as small as the tests' more threads only wait for each other: minutes on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
