"""Mistakes as a user makes them, each in a process of its own: at most three lines, within two seconds' work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miseg.commands import program

LINES = 3
"""Lines that a mistake takes at most, with what is said before it."""

SECONDS = 2.0
"""Processor time until it is told: what else the machine does is not counted."""

AT_ONCE = [
    ("train embedded-ec", {}, "did you mean embedded-ce, embedded-iic or embedded-bce?"),
    ("tune rmmi", {}, "did you mean rmi?"),
    ("train rmi --data embeded", {}, "did you mean embedded?"),
    ("study --methods rmii", {}, "did you mean rmi?"),
    ("train embedded-ce --stepps 3", {}, "did you mean --steps?"),
    ("trian embedded-ce", {}, "did you mean train?"),
    ("train embedded-ce --lr 0", {}, "error: --lr 0.0: use a value above 0"),
    ("train embedded-ce --lr fast", {}, "error: --lr fast: give a number"),
    ("tune embedded-ce --set lr=0", {}, "did you mean optimiser.learning_rate?"),
    ("train embedded-ce --workers 3", {}, "3 workers cannot share batches of 8"),
    ("train embedded-rmi --method.downsampling-factor 40", {}, "needs images of at least 120 x 120 pixels"),
    ("train embedded-ce --name a/b", {}, "--name 'a/b': / leads out of the folder"),
    ("train embedded-ce --data ./nowhere", {}, "./nowhere/dataset.json cannot be read"),
    ("train embedded-ce --address 127.0.0.1:1", {}, "no Ray answers there (Connection refused)"),
    ("train embedded-ce", {"RAY_ADDRESS": "127.0.0.1:1"}, "RAY_ADDRESS 127.0.0.1:1: no Ray answers there"),
    ("train embedded-ce", {"RAY_TMPDIR": f"/tmp/{'x' * 65}"}, "too long by 31 characters for the sockets"),
    ("train embedded-ce", {"MLFLOW_TRACKING_URI": "htp://foo"}, "did you mean http://foo?"),
    ("train embedded-ce", {"MLFLOW_TRACKING_URI": "./mlruns"}, "MLFLOW_TRACKING_URI = ./mlruns: a folder of runs"),
    ("evaluate --run 3f0c9d", {}, "no run was recorded in "),
    (f"train embedded-ce --storage s3://{'key'}:{'secret'}@bucket", {}, "keys in it would be printed"),
]
"""What is known from the words alone: command line, environment, and what is said."""

FROM_SHARDS = [
    ("train embedded-ce --data mixed --augmentation.crop None", "images of one batch differ in size, such as 64x96"),
    ("train rmi --data mixed --network deeplabv3 --batch-size 1", "DeepLabV3 needs two images or more a worker"),
    ("train embedded-ce --batch-size 100000", "GiB for images and logits alone, and this machine has "),
    ("train embedded-ce --data unlabelled", "has no labels, and CrossEntropy learns from them"),
    ("train embedded-ce --labelled-images 9", "embedded has 2 training images"),
]
"""What is known from the packed data and the settings, before a Ray is started."""


def called(line: str, storage: Path, environment: Mapping[str, str] | None = None) -> tuple[int, str, float]:
    """Status of a command, all that it printed, and the processor time in seconds that it took."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "MISEG_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "miseg", *line.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=storage,
        env={**known, "MISEG_STORAGE": str(storage), "COLUMNS": "80", **(environment or {})},
    )
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    return process.returncode, text, usage.ru_utime + usage.ru_stime


def check(line: str, storage: Path, sentence: str, environment: Mapping[str, str] | None = None) -> None:
    seconds = []
    for _ in range(3):  # the best of three
        status, text, taken = called(line, storage, environment)
        assert status == 2 and sentence in text, text
        assert len(text.splitlines()) <= LINES, text
        assert not re.search("Traceback|__tyro", text), text
        seconds.append(taken)
        if taken <= SECONDS:
            return
    pytest.fail(f"{line}: {min(seconds):.1f} s of processor time")


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of one size, images of two sizes with masks, and images without."""
    from miseg.data.packed.packing import pack
    from miseg.data.sources.registry import Embedded

    folder = tmp_path_factory.mktemp("mistakes")
    source = Embedded({"train": 2, "val": 1, "test": 0}, height=96, width=128)
    pack(source, folder / "data" / "embedded", source.available())
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    draw = np.random.default_rng(0)
    for number in range(24):
        height, width = (64, 96) if number % 2 else (80, 64)
        pixels = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number:02}.png")
        Image.fromarray((pixels[..., 0] > 99).astype(np.uint8)).save(folder / "masks" / f"{number:02}.png")
    for words in ("--images images --masks masks --out mixed", "--images images --out unlabelled"):
        status, text, _ = called(f"prepare-data {words}", folder)
        assert status == 0, text
    return folder


@pytest.mark.parametrize(("line", "environment", "sentence"), AT_ONCE, ids=[line for line, _, _ in AT_ONCE])
def test_what_the_words_show_is_told_at_once(
    line: str, environment: dict[str, str], sentence: str, storage: Path
) -> None:
    assert line.split()[0] in program.COMMANDS or "did you mean" in sentence
    check(line, storage, sentence, environment)


@pytest.mark.parametrize(("line", "sentence"), FROM_SHARDS, ids=[line for line, _ in FROM_SHARDS])
def test_what_the_data_show_is_told_before_ray_starts(line: str, sentence: str, storage: Path) -> None:
    check(line, storage, sentence)


def test_a_relative_path_of_data_is_understood(storage: Path) -> None:
    """Workers have other working directories: it was tried four times, and told by each."""
    check("train embedded-ce --data ./data/embedded --batch-size 100000", storage, "lower --batch-size")
