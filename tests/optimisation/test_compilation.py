"""Networks that are compiled, or not, where no compiler is there."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from miseg.methods.configs import CrossEntropy, MutualLearning
from miseg.methods.dense.cross_entropy import CrossEntropyMethod
from miseg.networks.configs import UNet
from miseg.service.checkpoints import checkpoint
from miseg.service.training.loop import Loop
from tests.support.loops import EXPERIMENT, TASK, batch_of, losses, run

COMPILED = replace(EXPERIMENT, method=MutualLearning(UNet(2, "batch"), (UNet(2, "group"),)), compile=True)


def refusing(*arguments: Any, **options: Any) -> Any:
    raise RuntimeError("\nInvalidCxxCompiler: no C++ compiler was found\nand more lines")


def test_without_a_compiler_training_goes_on_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", refusing)
    loop = Loop(COMPILED, TASK)
    assert loop.not_compiled == "InvalidCxxCompiler: no C++ compiler was found"
    assert losses(run(loop, 3)) == losses(run(Loop(replace(COMPILED, compile=False), TASK), 3))


def test_every_network_of_a_method_is_compiled_and_no_name_of_a_weight_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []

    def kept(function: Any, *arguments: Any, **options: Any) -> Any:
        compiled.append(getattr(function, "__self__", None))
        return function

    monkeypatch.setattr(torch, "compile", kept)
    loop, plain = Loop(COMPILED, TASK), Loop(replace(COMPILED, compile=False), TASK)
    assert [module for module in compiled if module is not None] == list(loop.method.networks)
    assert list(loop.method.state_dict()) == list(plain.method.state_dict())
    assert copy.deepcopy(loop.method).networks[0]._compiled_call_impl is None, "a copy can be sent and kept"


@pytest.mark.slow
def test_trials_one_after_the_other_are_compiled_and_only_their_training_is(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[torch.nn.Module] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    for width in range(1, 13):
        before = len(graphs)
        method = CrossEntropy(UNet(width, "group" if width % 2 == 0 else "batch"))
        loop = Loop(replace(EXPERIMENT, method=method, compile=True, accumulate=2), TASK)
        run(loop, 1)
        assert len(graphs) == before + 2, "the function that is tried, and the network"
    monkeypatch.setattr(CrossEntropyMethod, "counts", lambda self, batch: None)
    loop.evaluate([batch_of(9)])
    run(loop, 3)
    assert len(graphs) == before + 2


PROGRAM = """
import torch
from miseg.optimisation.compilation import compile_networks
print(repr(compile_networks(torch.nn.Sequential(torch.nn.Linear(2, 2)), torch.device("cpu"))))
"""


@pytest.mark.slow
def test_a_machine_without_a_compiler_has_a_reason(tmp_path: Path) -> None:
    environment = os.environ | {
        "CXX": str(tmp_path / "no-compiler"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert "no-compiler" in done.stdout or "compiler" in done.stdout.lower()


@pytest.mark.long
def test_compiled_networks_train_alike_and_resume_bit_for_bit(tmp_path: Path) -> None:
    experiment = replace(EXPERIMENT, method=CrossEntropy(UNet(2, "batch")), compile=True)
    whole = Loop(experiment, TASK)
    assert whole.not_compiled == ""
    expected = run(whole, 8)
    as_written = run(Loop(replace(experiment, compile=False), TASK), 8)
    assert losses(expected) == pytest.approx(losses(as_written), rel=1e-3)
    stopped = Loop(experiment, TASK)
    first = run(stopped, 3)
    checkpoint.save(tmp_path / "checkpoint", stopped, {})
    resumed = Loop(experiment, TASK)
    checkpoint.load(tmp_path / "checkpoint", resumed)
    assert first + run(resumed, 8) == expected
    for name, value in whole.method.state_dict().items():
        assert torch.equal(value, resumed.method.state_dict()[name]), name
    assert torch.equal(whole.evaluate([batch_of(9)]).matrix.counts, resumed.evaluate([batch_of(9)]).matrix.counts)
