"""The rows about methods and the CRF measure what they say; how fast anything is, no test judges."""

import dataclasses

import pytest
import torch

from miseg.evaluation.crf import available
from miseg.service.benchmarks import benchmark, crf, methods

pytestmark = pytest.mark.slow


@torch.no_grad()
def test_the_literal_rows_are_those_of_the_map() -> None:
    method, image = methods._labelled_scene(24)
    for parameter in method.of_parts.parameters():
        # Of a network that was never trained one label is the nearest to all pixels.
        parameter.normal_()
    found = method.predict(image)[0].argmax(0)
    assert len(found.unique()) > 1
    torch.testing.assert_close(methods._literal_rows(method, image, 24), found)


def test_the_literal_time_is_extrapolated_from_a_few_rows(small, monkeypatch, capsys) -> None:
    monkeypatch.setattr(methods, "SCENE", 48)
    monkeypatch.setattr(methods, "LITERAL_ROWS", 2)
    row = benchmark.ROWS["map"](small, batch_size=1, steps=1, repetitions=2)
    assert list(row.values) == ["literal, extrapolated", "once over the image"]
    assert all(len(values) == 2 for values in row.values.values()) and min(row.ratios) > 1
    assert "differ" not in capsys.readouterr().out


def test_a_step_of_mutual_learning_is_beside_each_of_its_networks(small) -> None:
    row = benchmark.ROWS["mutual-learning"](small, batch_size=1, steps=1, repetitions=2)
    assert list(row.values) == ["together", "each alone, added"]
    assert all(len(values) == 2 for values in row.values.values())


def test_a_step_of_iic_is_beside_its_network(small, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = methods.unsupervised.published("coco-stuff-15", "iic")
    narrow = dataclasses.replace(recipe.method, network=dataclasses.replace(recipe.method.network, width=2))
    monkeypatch.setattr(methods.unsupervised, "published", lambda *_: dataclasses.replace(recipe, method=narrow))
    monkeypatch.setattr(methods, "IIC_IMAGES", {"cpu": 2, "cuda": 2})
    row = benchmark.ROWS["iic"](small, batch_size=1, steps=1, repetitions=1)
    assert list(row.values) == ["IIC", "its network"] and row.ratios[0] > 1


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.skipif(not available(), reason="the extra crf is not installed")
def test_the_crf_runs_on_so_many_cores(small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crf, "CORES", (1,))
    row = benchmark.ROWS["crf"](small, batch_size=4, steps=1, repetitions=1)
    assert list(row.values) == ["1 core"] and row.values["1 core"][0] > 0
