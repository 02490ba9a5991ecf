"""Options that put another network into a job's experiments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import tyro

from miseg.commands import train
from miseg.commands.tune import any_recipe, rmi
from miseg.methods.configs import CrossEntropy
from miseg.networks import build_network
from miseg.networks.architectures import ARCHITECTURES
from miseg.networks.configs import DeepLab, EncoderDecoder
from miseg.recipes.experiment import Experiment
from miseg.service.command.networks import NetworkOptions, check_batch_norm, check_named_once

SEGFORMER = EncoderDecoder("segformer", "mit_b0")
POOLED: Any = [name for name, architecture in ARCHITECTURES.items() if architecture.normalises_pooled]
WORDS = ["--network", "segformer", "--encoder", "mit_b0"]


def test_train_takes_the_options_of_recipes_and_methods() -> None:
    for name in ("embedded-rmi", "rmi"):
        arguments: Any = tyro.cli(train.recipe_type(), args=[name, *WORDS])
        assert arguments.applied(arguments.experiment).method.network == SEGFORMER


def test_tune_gives_the_network_to_the_baselines_too() -> None:
    arguments = tyro.cli(rmi.TuneRmi, args=[*WORDS, "--baselines", "ce", "bce"])
    base, rivals = rmi.experiments(arguments)
    experiments: list[Any] = [base, *rivals.values()]
    assert [experiment.method.network for experiment in experiments] == [SEGFORMER] * 3
    other: Any = any_recipe._recipe(
        "recipe", "embedded-ce", tyro.cli(any_recipe.TuneAnyRecipe, args=["embedded-ce", *WORDS])
    )
    assert other.method.network == SEGFORMER


def test_a_network_s_own_settings_are_not_lost_silently() -> None:
    command = ["rmi", "--method.network.initial-features=8", *WORDS]
    with pytest.raises(ValueError, match=r"--method\.network\.initial-features is a setting of the network that"):
        check_named_once(NetworkOptions("segformer"), command)
    check_named_once(NetworkOptions(), command)


def test_an_encoder_is_said_once() -> None:
    assert NetworkOptions("segformer:mit_b0").applied(Experiment()).method.network == SEGFORMER  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="say the encoder once"):
        NetworkOptions("unet:resnet18", "resnet34").applied(Experiment())


@pytest.mark.parametrize("network", [DeepLab(), *(EncoderDecoder(name, "resnet18") for name in POOLED)])
def test_one_image_a_worker_is_refused_where_features_are_pooled(network: Any) -> None:
    experiment = Experiment(CrossEntropy(network), batch_size=2)
    check_batch_norm(experiment, 1, shared=False)
    check_batch_norm(experiment, 2, shared=True)
    with pytest.raises(ValueError, match="needs two images or more a worker"):
        check_batch_norm(experiment, 2, shared=False)
    with pytest.raises(ValueError, match=r"batch_size = 1 over 1 worker:.*raise --batch-size, or use one of unet, "):
        check_batch_norm(replace(experiment, batch_size=1), 1, shared=True)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_networks_that_are_refused_are_those_that_fail(name: Any) -> None:
    encoder = "test_vit" if name == "dpt" else "test_resnet"
    config = EncoderDecoder(name, encoder, output_stride=32 if name == "pan" else None)
    network, image = build_network(config, 3, 2).train(), torch.zeros(1, 3, 256, 256)
    if ARCHITECTURES[name].normalises_pooled:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            network(image)
    else:
        network(image)
