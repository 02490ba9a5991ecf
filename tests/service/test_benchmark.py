"""The benchmark's rows measure what they say; how fast anything is, no test judges."""

from dataclasses import replace

import pytest

from miseg.interface import Batch
from miseg.recipes import streets
from miseg.service import benchmark, ingest
from miseg.service.benchmark import Row

pytestmark = pytest.mark.slow


def test_ratios_are_the_first_variant_over_the_second_repetition_by_repetition() -> None:
    row = Row("step", "ms", {"RMI": [3.0, 4.0, 9.0], "BCE": [2.0, 4.0, 3.0]})
    assert row.ratios == [1.5, 1.0, 3.0]
    assert "ratio" in row.text() and "1.50 (1.00 to 3.00)" in row.text() and "of 3 repetitions" in row.text()


def test_a_step_is_timed_for_both_methods(small) -> None:
    row = benchmark.step(small, batch_size=1, steps=1, repetitions=2)
    assert list(row.values) == ["RMI and BCE", "BCE"]
    assert all(len(values) == 2 and min(values) > 0 for values in row.values.values())


def test_the_peak_grows_with_the_batch(small) -> None:
    experiment, task = streets.camvid_bce(), ingest.task_of(small)
    columns = next(ingest.training_plan(small, replace(experiment, batch_size=2))(start_step=0, stop_step=1))
    two = ingest.Converter(small, experiment)(columns)
    one = Batch(two.images_NCHW[:1], two.labels_NHW[:1], two.ids[:1])
    difference = benchmark.peak_bytes(experiment, task, two) - benchmark.peak_bytes(experiment, task, one)
    # Four feature maps of full resolution are kept for the backward pass, of the image that only one batch has.
    height, width = two.images_NCHW.shape[-2:]
    assert difference > 4 * 16 * height * width * 4
