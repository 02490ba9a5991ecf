"""What a plan keeps to, whatever the data, the method and the machine: limits of nnU-Net; what is given stays."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
from collections.abc import Iterator

import pytest

from miseg.methods.configs import AffinityField, CrossEntropy, MethodConfig, PatchAutoencoder, RegionMutualInformation
from miseg.methods.registry import by_key
from miseg.networks.configs import DeepLab, UNet
from miseg.recipes.experiment import Experiment
from miseg.recipes.planning.plan import GIVEN, Machine, MemoryNeeds, TrainingPlan
from miseg.recipes.planning.rules import DIVISOR, plan
from miseg.recipes.planning.summary import DataSummary

GIB = 2**30
NEEDS = MemoryNeeds(4000.0, 1300.0, 0.2 * GIB)
GPU, CPU = Machine(8 * GIB, True, room=4 * GIB), Machine(2 * GIB, False, room=4 * GIB)
MEMBRANE = DataSummary(((512, 512),) * 20, ((512, 512),) * 5, 2, 3)


def photos(number: int = 3000, seed: int = 0) -> DataSummary:
    """Photographs of many sizes and both orientations."""
    generator = random.Random(seed)
    sizes = []
    for _ in range(number):
        long = generator.randint(200, 1200)
        short = round(long * generator.uniform(0.5, 1.0))
        sizes.append((long, short) if generator.random() < 0.3 else (short, long))
    return DataSummary(tuple(sizes), tuple(sizes[:50]), 21, 3)


def data_sets() -> Iterator[DataSummary]:
    """Of all numbers and sizes, drawn and at the ends."""
    generator = random.Random(1)
    yield from (MEMBRANE, photos(), DataSummary(((1, 1),)), DataSummary(((24, 30),) * 3, classes=0))
    yield DataSummary(((6000, 6000),) * 2, ((9000, 500),))
    for _ in range(60):
        number = generator.choice((1, 2, 3, 10, 300))
        high = generator.choice((40, 500, 5000))
        sizes = tuple((generator.randint(1, high), generator.randint(1, high)) for _ in range(number))
        yield DataSummary(sizes, sizes[:3], generator.choice((0, 2, 150)), generator.choice((1, 3, 13)))


MACHINES = (
    GPU,
    CPU,
    Machine(GIB, True, workers=4),
    Machine(GIB // 2, False, workers=2),
    Machine(int(0.25 * GIB), False),
)
METHODS: tuple[MethodConfig, ...] = (RegionMutualInformation(), CrossEntropy(), AffinityField())


def every_plan() -> Iterator[tuple[DataSummary, MethodConfig, Machine, TrainingPlan]]:
    for data, machine, method in itertools.product(data_sets(), MACHINES, METHODS):
        yield data, method, machine, plan(data, method, NEEDS, machine)


def resized(plan: TrainingPlan, size: tuple[int, int]) -> tuple[float, float]:
    resize = next((s.value for s in plan.settings if s.path == "augmentation.resize"), None)
    factor = 1.0 if resize is None else resize / min(size)
    return size[0] * factor, size[1] * factor


def test_what_holds_for_every_plan() -> None:
    for data, method, machine, made in every_plan():
        crop, batch = made["augmentation.crop"], made["batch_size"]
        assert all(side % DIVISOR == 0 and side > 0 for side in crop)
        # Never more memory than there is: of a training step, and of a validation on whole images.
        share = batch / machine.workers * math.prod(crop)
        assert NEEDS.fixed + share * NEEDS.per_pixel <= machine.memory, (data, machine)
        largest = max(math.prod(resized(made, size)) for size in {*data.sizes, *data.validation_sizes})
        evaluated = NEEDS.fixed + batch / machine.workers * largest * NEEDS.per_pixel_evaluated
        assert evaluated <= machine.memory * 1.01, "sides are rounded to whole pixels"
        # Batch norm has two images in every process; no batch has more images than there are beside that.
        assert batch % machine.workers == 0 and batch // machine.workers >= 2
        assert batch <= max(data.images, 2 * machine.workers)
        assert batch <= max(16, 2 * machine.workers)
        # A crop is no larger than the median image, up to what is padded to one multiple.
        for side, have in zip(crop, resized(made, data.median), strict=True):
            assert side <= max(DIVISOR, have)
        assert 1 <= made["validate_every"] <= made["steps"] and made["optimiser.warmup_steps"] < made["steps"]
        experiment = made.applied(Experiment(method))
        assert experiment.augmentation.crop == crop and experiment.steps == made["steps"]
        assert all(setting.reason for setting in made.settings) and set(json.loads(made.json())) >= {"data", "settings"}


def test_regions_are_enough_for_their_covariance() -> None:
    for _, method, _, made in every_plan():
        if isinstance(method, RegionMutualInformation):
            factor, size = made["method.downsampling_factor"], made["method.region_size"]
            regions = math.prod(side // factor - size + 1 for side in made["augmentation.crop"])
            assert regions >= 20 * size**2 and (factor <= 4 and size <= 3)
    for side in (1, 2, 5, 11, 12, 40, 500):
        own = {name: value for name, (value, _) in RegionMutualInformation().fitted(side, side).items()}
        dataclasses.replace(RegionMutualInformation(), **own).check_size(side, side)


def test_more_images_are_trained_for_more_steps() -> None:
    for machine in (GPU, CPU):
        steps = [plan(photos(number), CrossEntropy(), NEEDS, machine)["steps"] for number in (1, 2, 10, 100, 3000)]
        assert steps == sorted(set(steps))
    published = {10_582: 30_000, 367: 6_000}
    for images, steps_of_paper in published.items():
        made = plan(DataSummary(((375, 500),) * images), RegionMutualInformation(), NEEDS, GPU)
        assert made["steps"] == pytest.approx(steps_of_paper, rel=0.05), "the RMI paper's schedules"


def test_less_memory_is_a_smaller_batch_and_then_a_smaller_crop() -> None:
    made = [plan(photos(), CrossEntropy(), NEEDS, Machine(memory, True)) for memory in (64 * GIB, 4 * GIB, GIB)]
    pixels = [made_of["batch_size"] * math.prod(made_of["augmentation.crop"]) for made_of in made]
    assert pixels == sorted(pixels, reverse=True) and len(set(pixels)) == 3
    assert made[0]["augmentation.crop"] == made[1]["augmentation.crop"] > made[2]["augmentation.crop"]
    with pytest.raises(ValueError, match=r"0.2 GiB of GPU memory do not hold a training step .* choose a smaller"):
        plan(photos(), CrossEntropy(), NEEDS, Machine(int(0.2 * GIB), True))


def test_a_grey_stack_and_photos_of_many_sizes() -> None:
    stack, many = plan(MEMBRANE, RegionMutualInformation(), NEEDS, GPU), plan(photos(), CrossEntropy(), NEEDS, GPU)
    assert (stack["augmentation.crop"], stack["batch_size"]) == ((512, 512), 2), "5 % of 20 such images is one"
    assert (stack["method.downsampling_factor"], stack["method.region_size"]) == (4, 3), "the paper's"
    assert (stack["augmentation.scale"], many["augmentation.scale"]) == ((0.75, 1.25), (0.5, 2.0))
    assert stack["decoded_gib"] == 0.1 and many["decoded_gib"] == 0, "4.4 GiB have no room"
    assert "augmentation.resize" not in {setting.path for setting in many.settings}
    assert plan(MEMBRANE, CrossEntropy(DeepLab(weights="imagenet")), NEEDS, GPU)["optimiser.learning_rate"] == 1e-4


def test_without_a_crop_images_are_not_scaled() -> None:
    """Each would have a size of its own, and a batch could not hold two."""
    given = {"augmentation.resize": (32, 32), "augmentation.crop": None}
    made = plan(photos(), CrossEntropy(), NEEDS, GPU, given)
    assert (made["augmentation.scale"], made["augmentation.flip"]) == (None, 0.5)
    assert plan(photos(), CrossEntropy(), NEEDS, GPU, given | {"augmentation.scale": (1, 1)})["augmentation.scale"]


def test_images_that_are_much_larger_than_a_crop_are_made_smaller() -> None:
    large = DataSummary(((3000, 4000),) * 100, ((3000, 4000),) * 10)
    made = plan(large, CrossEntropy(), NEEDS, GPU)
    assert made["augmentation.resize"] == pytest.approx(1550, abs=30), "two whole images fit into the memory"
    assert plan(large, CrossEntropy(), NEEDS, Machine(80 * GIB, True))["augmentation.resize"] == 2048
    assert plan(large, CrossEntropy(), NEEDS, GPU, {"augmentation.resize": 300})["augmentation.crop"] == (288, 384)


def test_what_is_given_stays_and_the_rest_follows_from_it() -> None:
    given = {"batch_size": 6, "steps": 40, "augmentation.flip": 0.0, "method.downsampling_factor": 2}
    method = RegionMutualInformation(downsampling_factor=2)
    made = plan(photos(), method, NEEDS, GPU, given)
    assert {s.path: s.value for s in made.settings if s.reason == GIVEN} == given
    assert (made["validate_every"], made["optimiser.warmup_steps"], made["method.region_size"]) == (20, 2, 3)
    assert made["batch_size"] * math.prod(made["augmentation.crop"]) * NEEDS.per_pixel < GPU.memory
    whole = plan(MEMBRANE, method, NEEDS, GPU, {"augmentation.crop": None})
    assert whole["augmentation.crop"] is None and whole.applied(Experiment(method)).augmentation.crop is None
    few = plan(photos(), method, NEEDS, GPU, {"label_budget": 30})
    assert few["steps"] == plan(photos(30), method, NEEDS, GPU)["steps"] and few["batch_size"] <= 30


def test_validations_take_no_more_than_a_quarter_of_the_steps_time_where_two_are_enough() -> None:
    def validations(steps: int, images: int) -> int:
        data = DataSummary(((960, 999),) * 20, ((960, 999),) * images)
        made = plan(data, CrossEntropy(), NEEDS, CPU, {"steps": steps})
        number = math.ceil(steps / made["validate_every"])
        validated = images * math.prod(resized(made, (960, 999)))
        # A pass forward is a third of a training step's.
        trained = 3 * steps * made["batch_size"] * math.prod(made["augmentation.crop"])
        assert number == 2 or number * validated <= trained / 4
        return number

    assert validations(1000, 4) == 10 and validations(12, 4) == 2
    assert 2 < validations(140, 4) < 10 and validations(1000, 400) == 2
    assert validations(1000, 0) == 10, "where nothing is validated, nothing is saved"


def test_methods_that_are_compared_share_what_is_the_data_s() -> None:
    alike = ("augmentation.crop", "batch_size", "steps", "validate_every", "augmentation.scale")
    dense = [of.settings() for of in by_key().values() if of.supervision != "few"]
    plans = [plan(photos(), method, NEEDS, GPU) for method in dense]
    assert len(plans) > 8
    assert len({tuple(made[path] for path in alike) for made in plans}) == 1


def test_pairs_of_patches_are_of_other_dates_where_there_are_some() -> None:
    one = plan(MEMBRANE, PatchAutoencoder(), NEEDS, CPU)
    dated = plan(dataclasses.replace(MEMBRANE, dates=5), PatchAutoencoder(), NEEDS, CPU, {"steps": 9})
    assert (one["pairs.other_date"], one["pairs.turn"]) == (0.0, True)
    assert (dated["pairs.other_date"], dated["pairs.turn"], dated["validate_every"]) == (1.0, False, 3)
    assert one.applied(Experiment(PatchAutoencoder())).pairs.other_date == 0.0
    with pytest.raises(ValueError, match=r"patches of 9 pixels a side do not fit .* 4 pixels a side"):
        plan(DataSummary(((4, 90),)), PatchAutoencoder(), NEEDS, CPU)


def test_the_table_says_each_setting_s_option_value_and_reason() -> None:
    table = plan(MEMBRANE, RegionMutualInformation(UNet()), NEEDS, CPU, {"steps": 7}).table()
    first, *lines = table.splitlines()
    assert first == (
        "planned from 20 training images of 512x512 pixels, 3 channels, 2 classes, for 2 GiB of memory, no GPU:"
    )
    assert any(line.split() == ["--steps", "7", "given"] for line in lines)
    assert any(line.split()[:3] == ["--augmentation.crop", "256", "256"] for line in lines)
    assert all(line.startswith("  --") and len(line.split()) > 2 for line in lines)


def test_a_job_with_set_shows_settings_as_it_takes_them() -> None:
    made = plan(MEMBRANE, RegionMutualInformation(UNet()), NEEDS, CPU)
    lines = [line.split()[:2] for line in made.table(options=False).splitlines()[1:]]
    assert ["augmentation.crop", "256,256"] in lines
    assert [name for name, _ in lines if name.startswith("--")] == ["--decoded-gib"], "which is no setting"
