"""InfoSeg's network: what the high-level features see, pooled and flattened, and its layers one by one."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import layer_norm

from miseg.networks.configs import InfoSegNetwork as Settings
from miseg.networks.infoseg import FixedSize, InfoSegNetwork
from miseg.recipes.experiment import from_dict, to_dict
from miseg.recipes.unsupervised import RECIPES


def network(high: str, features: int = 64, size: int = 2) -> InfoSegNetwork:
    torch.manual_seed(0)
    return InfoSegNetwork(Settings(features, size, normalisation="group", high=high), 3, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("high", ["pooled", "flattened"])
@pytest.mark.parametrize("sides", [(128, 128), (64, 64), (40, 72)])
def test_shapes_hold_for_any_size(high: str, sides: tuple[int, int]) -> None:
    local, high_NKP = network(high)(torch.rand(2, 3, *sides))
    assert local.shape == (2, 64, sides[0] // 4, sides[1] // 4) and high_NKP.shape == (2, 3, 64)


def test_flattened_extractors_take_the_local_features_and_pooled_ones_do_not() -> None:
    for high, takes in (("flattened", True), ("pooled", False)):
        net = network(high)
        # The sum over P is 0 after layer norm.
        net(torch.rand(1, 3, 64, 64)).high_NKP.square().mul(torch.arange(64)).sum().backward()
        assert (net.local.weight.grad is not None) == takes


def test_flattened_features_are_the_papers_layers_one_after_the_other() -> None:
    """Dense at each position, flattened, normalised; a loop over clusters, positions and features in float64."""
    net = network("flattened", features=128).double().eval()
    image = torch.rand(1, 3, 128, 128, dtype=torch.float64)
    local, high_NKP = net(image)
    shared = net.high[1](net.high[0](local))
    assert shared.shape == (1, 16, 8, 8)
    for cluster, extractor in enumerate(net.extractors):
        dense, norm = extractor[0], extractor[2]  # type: ignore[index]
        values = [
            (dense.weight[feature, :, 0, 0] * shared[0, :, row, column]).sum() + dense.bias[feature]
            for feature in range(2)
            for row in range(8)
            for column in range(8)
        ]
        expected = layer_norm(torch.stack(values), (128,), norm.weight, norm.bias)
        torch.testing.assert_close(high_NKP[0, cluster], expected, rtol=1e-9, atol=1e-9)


def test_flattened_features_tell_where_something_is_and_pooled_ones_hardly() -> None:
    left = torch.zeros(1, 3, 128, 128)
    left[:, :, 32:96, 16:48] = 1
    right = left.roll(64, 3)
    changes = {}
    for high in ("pooled", "flattened"):
        net = network(high, size=4).eval()
        first, second = net(left).high_NKP, net(right).high_NKP
        changes[high] = ((first - second).norm() / first.norm()).item()
    assert changes["flattened"] > 3 * changes["pooled"]


def test_a_map_of_its_own_size_is_handed_on() -> None:
    values = torch.rand(1, 2, 8, 8)
    assert FixedSize(8)(values) is values
    torch.testing.assert_close(FixedSize(4)(values), torch.nn.functional.avg_pool2d(values, 2))


def test_features_that_do_not_fill_the_positions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"features = 100: .* use a multiple of 64"):
        Settings(features=100, high="flattened")
    assert Settings(features=100).high == "pooled"


def test_the_new_setting_is_no_part_of_an_earlier_description() -> None:
    recipe = RECIPES["coco-persons-infoseg"]()
    assert "high" not in to_dict(recipe, later_defaults=False)["method"]["network"]
    published = RECIPES["coco-persons-infoseg-as-published"]()
    assert to_dict(published, later_defaults=False)["method"]["network"]["high"] == "flattened"
    assert from_dict(to_dict(published)) == published and published.id != recipe.id


@pytest.mark.parametrize(
    ("recipe", "rate", "batch", "second", "window", "side", "sobel", "jitter"),
    [
        ("potsdam-iic-as-published", 1e-6, 60, 36, 5, 200, False, 0.1),
        ("potsdam-3-iic-as-published", 1e-5, 75, 24, 10, 200, False, 0.1),
        ("coco-stuff-15-iic-as-published", 1e-4, 60, 45, 10, 128, True, 0.4),
    ],
)
def test_iic_is_set_up_as_its_authors_commands_are(
    recipe: str, rate: float, batch: int, second: int, window: int, side: int, sobel: bool, jitter: float
) -> None:
    experiment = RECIPES[recipe]()
    method = experiment.method
    assert (experiment.optimiser.learning_rate, experiment.batch_size) == (rate, batch)
    assert experiment.augmentation.crop == (side, side) and experiment.augmentation.resize is None
    assert (method.over_clusters, method.displacement, method.jitter) == (second, window, jitter)  # type: ignore[attr-defined]
    assert method.network.sobel == sobel  # type: ignore[attr-defined]
    assert experiment.steps % 4_800 == 0


def test_coco_persons_is_resized_as_published_and_as_before_otherwise() -> None:
    for method in ("infoseg", "iic", "kmeans", "relative-position", "co-occurrence"):
        assert RECIPES[f"coco-persons-{method}-as-published"]().augmentation.resize == (128, 128)
        assert RECIPES[f"coco-persons-{method}"]().augmentation.crop == (128, 128)
