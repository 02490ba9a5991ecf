"""What a report calls things."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from miseg.recipes.catalog import RECIPES
from miseg.service.remarks import counted
from miseg.service.reports.alike import keep_alike, sentence
from miseg.service.reports.reported_study import ReportedRow, ReportedTable, TrainedSeed
from miseg.service.reports.words import claimed, data_and_labels, gain, give_or_take, number, signed, system
from miseg.service.tracking.description import parameters


@pytest.mark.parametrize(
    ("recipe", "called"),
    [
        ("camvid-ce", "U-Net, 350 steps"),
        ("camvid-v3plus-rmi", "DeepLabV3+, resnet101d, 6,000 steps"),
        ("camvid-iic", "VGG trunk, 300 steps"),
        ("camvid-infoseg", "InfoSeg network, 300 steps"),
        ("camvid-kmeans", "300 steps"),
        ("flanders-similarity", "patch encoder, 6,000 steps"),
    ],
)
def test_the_network_is_named_from_what_mlflow_holds(recipe: str, called: str) -> None:
    run = SimpleNamespace(data=SimpleNamespace(params=parameters(RECIPES[recipe]()), tags={}))
    assert (
        system(
            ReportedRow("row", "cell", "", recipe, {1: TrainedSeed(run)}), ReportedTable("camvid", "all", "dense", "")
        )
        == called
    )


def test_what_is_to_be_known_of_clusters_is_said() -> None:
    runs = [
        SimpleNamespace(
            data=SimpleNamespace(params={"steps": "10"}, tags={"miseg.match": match, "miseg.collapsed": how})
        )
        for match, how in (("many to one, 9 clusters with 3 classes", "no"), ("one to one", "step 9: one cluster"))
    ]
    line = ReportedRow("row", "cell", "", "", {seed: TrainedSeed(run) for seed, run in enumerate(runs)})
    told = "10 steps, clusters matched many to one, clusters collapsed on 1 seed"
    assert system(line, ReportedTable("camvid", "all", "none", "")) == told


def test_seeds_that_were_measured_on_other_chips_are_left_out_by_name() -> None:
    """Chips less valid than `pairs.min_valid` are left out where a method that learns from pairs is measured."""
    few = RECIPES["flanders-similarity"]()
    clear = {1: few, 2: few, 3: replace(few, pairs=replace(few.pairs, min_valid=0.5))}
    runs = {seed: SimpleNamespace(data=SimpleNamespace(params=parameters(e), tags={})) for seed, e in clear.items()}
    line = ReportedRow("ours", "cell", "", "", {seed: TrainedSeed(run) for seed, run in runs.items()})
    table = ReportedTable("sentinel2-flanders", "50", "few", "", lines=[line])
    keep_alike(table)
    assert set(line.seeds) == {1, 2} and "ours, seed 3: clear 0.5 where the others have 0.97" in table.missing[0]
    assert "chips of which 97% or more is valid" in sentence(table)


@pytest.mark.parametrize(
    ("data", "budget", "supervision", "called"),
    [
        ("camvid", "all", "dense", "CamVid"),
        ("camvid", "20", "dense", "CamVid with 20 labelled images"),
        ("camvid", "all", "none", "CamVid without labels"),
        ("s3://bucket/own/", "all", "dense", "own"),
        ("sentinel2-flanders", "50", "few", "Sentinel-2 series of Flanders with 50 labelled pixels a class"),
    ],
)
def test_the_data_and_the_labels_are_put_in_words(data: str, budget: str, supervision: str, called: str) -> None:
    table = ReportedTable(data, budget, supervision, "")
    assert data_and_labels(table) == called
    images, pixels = budget if supervision == "dense" else "", budget if supervision == "few" else ""
    labels = {"network": "", "budget": budget, "labelled_images": images, "labelled_pixels_per_class": pixels}
    assert table.labels == labels


def test_numbers() -> None:
    assert (signed(1.06), signed(-0.44), gain((-14.0, -7.0)), gain(None)) == ("+1.1", "−0.4", "−14.0 to −7.0", "")
    assert (counted(1, "seed"), counted(1200, "image")) == ("1 seed", "1,200 images")
    assert [give_or_take(half) for half in (0.25, 100.0, 115.6)] == [" ± 0.2", " ± 100.0", " ± over 100"]
    assert (give_or_take(float("nan")), give_or_take("")) == ("", "")
    assert (number(None), number(float("nan")), number(1.23456)) == ("", "", 1.2346)
    assert claimed("RegionMutualInformation") == "Zhao +1.5 to +2.6; Gonçalves −13.6 to −6.9; Lu +1.6 to +3.4"
    assert claimed("CrossEntropy") == ""
