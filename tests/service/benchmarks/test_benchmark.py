"""The benchmark's rows measure what they say; how fast anything is, no test judges."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from miseg.data.packed.dataset import PackedDataset
from miseg.interface import Batch
from miseg.losses import RegionMutualInformationLoss
from miseg.losses.information import compiled
from miseg.recipes import streets
from miseg.service.benchmarks import benchmark, data, losses, steps
from miseg.service.benchmarks.rows import BenchmarkRow
from miseg.service.training import streams as ingest

pytestmark = pytest.mark.slow


def test_ratios_are_the_first_variant_over_the_second_repetition_by_repetition() -> None:
    row = BenchmarkRow("step", "ms", {"RMI": [3.0, 4.0, 9.0], "BCE": [2.0, 4.0, 3.0]})
    assert row.ratios == [1.5, 1.0, 3.0]
    assert "ratio" in row.text() and "1.50 (1.00 to 3.00)" in row.text() and "of 3 repetitions" in row.text()


def test_a_step_is_timed_for_both_methods(small) -> None:
    row = benchmark.ROWS["step"](small, batch_size=1, steps=1, repetitions=2)
    assert list(row.values) == ["RMI and BCE", "BCE"]
    assert all(len(values) == 2 and min(values) > 0 for values in row.values.values())


@pytest.mark.parametrize(
    ("row", "variants"),
    [("accumulate", ["in 2 parts", "at once"]), ("average", ["with an average", "without"])],
)
def test_an_option_of_a_step_is_timed_beside_a_step_without_it(small, row: str, variants: list[str]) -> None:
    found = benchmark.ROWS[row](small, batch_size=4, steps=1, repetitions=2)
    assert list(found.values) == variants
    assert all(len(values) == 2 and min(values) > 0 for values in found.values.values())


@pytest.mark.long
def test_a_batch_in_parts_takes_less_memory(small) -> None:
    row = benchmark.ROWS["accumulate-memory"](small, batch_size=8, steps=1, repetitions=1)
    assert list(row.values) == ["in 4 parts", "at once"] and row.ratios[0] < 0.8


def test_nothing_is_timed_as_compiled_that_is_not(small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function: no_compiler)
    with pytest.raises(RuntimeError, match="the networks are not compiled"):
        benchmark.ROWS["compile"](small, batch_size=1, steps=1, repetitions=1)


def no_compiler(values: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no compiler of this name")


@pytest.mark.long
def test_the_peak_grows_with_the_batch(small) -> None:
    experiment, task = streets.camvid_bce(), ingest.task_of(small)
    columns = next(ingest.training_plan(small, replace(experiment, batch_size=2))(start_step=0, stop_step=1))
    two = ingest.Converter(small, experiment)(columns)
    one = Batch(two.images_NCHW[:1], two.labels_NHW[:1], two.ids[:1])
    difference = steps.peak_bytes(experiment, task, two) - steps.peak_bytes(experiment, task, one)
    # Four feature maps of full resolution are kept for the backward pass, of the image that only one batch has.
    height, width = two.images_NCHW.shape[-2:]
    assert difference > 4 * 16 * height * width * 4


def test_the_published_formulation_has_our_values_and_gradients() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 61, 50, requires_grad=True)
    labels = torch.randint(0, 5, (2, 61, 50))
    published = losses.published_loss(logits, labels)
    (expected,) = torch.autograd.grad(published, logits)
    ours = RegionMutualInformationLoss(5)(logits, labels)
    (found,) = torch.autograd.grad(ours, logits)
    assert ours.item() == pytest.approx(published.item(), rel=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-8)


def test_losses_are_timed_in_turn(small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "SIDE", 33)
    row = benchmark.ROWS["loss"](small, batch_size=1, steps=1, repetitions=2)
    assert list(row.values) == ["as published", "RMI + BCE, compiled"]
    assert all(len(values) == 2 for values in row.values.values())
    row = benchmark.ROWS["loss-beside-bce"](small, batch_size=1, steps=1, repetitions=1)
    assert list(row.values) == ["RMI + BCE, compiled", "BCE"]


def test_wavelets_are_timed_beside_regions(small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "SIDE", 33)
    row = benchmark.ROWS["cwmi"](small, batch_size=1, steps=1, repetitions=2)
    assert list(row.values) == ["CWMI, compiled", "RMI + BCE, compiled", "CWMI + CE, compiled"]
    row = benchmark.ROWS["cwmi-plain"](small, batch_size=1, steps=1, repetitions=1)
    assert list(row.values) == ["CWMI, by PyTorch", "RMI + BCE, by PyTorch", "CWMI + CE, by PyTorch"]
    assert row.ratios[0] > 0 and compiled.available()


def test_rows_without_a_compiler_leave_it_as_it_was(small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "SIDE", 33)
    for named in (None, "cc"):
        if named is not None:
            monkeypatch.setenv("MISEG_COMPILER", named)
        row = benchmark.ROWS["loss-plain"](small, batch_size=1, steps=1, repetitions=1)
        assert list(row.values) == ["as published", "RMI + BCE, by PyTorch"]
        assert os.environ.get("MISEG_COMPILER") == named
        row = benchmark.ROWS["loss-plain-beside-bce"](small, batch_size=1, steps=1, repetitions=1)
        assert list(row.values) == ["RMI + BCE, by PyTorch", "BCE"] and compiled.available()


def test_the_peak_of_the_loss_holds_its_gradient(small) -> None:
    row = benchmark.ROWS["loss-memory"](small, batch_size=1, steps=1, repetitions=1)
    assert row.ratios[0] > 0.99


@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_the_loop_is_timed_beside_a_bare_one(small) -> None:
    row = benchmark.ROWS["loop"](small, batch_size=2, steps=2, repetitions=2)
    assert list(row.values) == ["miseg", "bare PyTorch"] and len(row.ratios) == 2 and min(row.ratios) > 0


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.usefixtures("ray_here")
def test_two_workers_are_timed_beside_one_and_beside_the_model(small) -> None:
    row = benchmark.ROWS["scaling"](small, batch_size=2, steps=1, repetitions=1)
    assert list(row.values) == ["one worker", "two workers", "two, by the model"]
    # By the model, two workers take longer by what they add up, which takes some time.
    assert row.values["two, by the model"][0] > row.values["one worker"][0] > 0


@pytest.mark.ray
@pytest.mark.usefixtures("ray_here")
def test_the_data_path_is_timed_with_and_without_decoded_images(small) -> None:
    row = benchmark.ROWS["data-path-cached"](small, batch_size=2, steps=3, repetitions=1)
    assert list(row.values) == ["Ray Data, from epoch 2 on", "DataLoader, 2 workers"] and row.ratios[0] > 0


def test_ten_times_the_data_are_each_image_ten_times(small, tmp_path) -> None:
    larger = PackedDataset.open(data._multiplied(small, tmp_path))
    assert larger.size("train") == 10 * small.size("train") and larger.fingerprint != small.fingerprint
    larger.verify()
    ids = [row[0] for row in larger.index("train")]
    assert sorted(ids) == sorted(10 * [row[0] for row in small.index("train")])


def test_what_other_processes_hold_counts_in_the_peak() -> None:
    code = "import time; data = bytearray(200_000_000); time.sleep(1)"
    peak = data._peak_of_processes(lambda: subprocess.run([sys.executable, "-c", code], check=True))
    assert peak > 200_000_000
