"""K-means of all images, and the pairs of patches from which its features may come."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from sklearn import cluster
from sklearn.cluster import KMeans
from torch import Tensor, nn

from miseg.interface import Batch, Task
from miseg.methods import build_method
from miseg.methods.configs import CoOccurrence, PixelKMeans, RelativePosition
from miseg.methods.unsupervised.k_means import PixelKMeansMethod
from miseg.methods.unsupervised.patch_pairs import PatchPairMethod
from miseg.networks.configs import VGG

COLOURS = torch.tensor([[-2.0, 0.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 3.0], [0.0, -3.0, 0.0]])


def painted(seed: int = 0, number: int = 6) -> tuple[Tensor, Tensor]:
    """Images whose pixels have one of four colours, and which."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(0, 4, (number, 10, 12), generator=generator)
    images = COLOURS[which].permute(0, 3, 1, 2) + 0.2 * torch.randn(number, 3, 10, 12, generator=generator)
    return images, which


def pixels(**settings: int) -> PixelKMeansMethod:
    torch.manual_seed(0)
    method = build_method(PixelKMeans(**settings), Task(4))
    assert isinstance(method, PixelKMeansMethod)
    return method


def matched(centres: Tensor) -> Tensor:
    return centres[torch.cdist(COLOURS, centres).argmin(1)]


def test_one_set_of_centres_over_all_images_is_scikit_learns() -> None:
    images, which = painted()
    method = pixels()
    method.fit_support([Batch(images[:2]), Batch(images[2:])])
    exact = KMeans(4, n_init=10, random_state=0).fit(images.movedim(1, -1).reshape(-1, 3).numpy())
    found = matched(method.centres_KD.detach())
    torch.testing.assert_close(found, matched(torch.tensor(exact.cluster_centers_)), rtol=0, atol=0.02)
    predicted = method.predict(images).argmax(1)
    assert torch.equal(predicted, torch.cdist(images.movedim(1, -1), method.centres_KD).argmin(-1))
    assert len({(int(a), int(b)) for a, b in zip(predicted.flatten(), which.flatten(), strict=True)}) == 4


def test_half_precision_around_it_moves_no_pixel_to_another_centre() -> None:
    images = painted()[0]
    method = pixels()
    method.fit_support([Batch(images)])
    with torch.autocast("cpu", torch.bfloat16):
        found = method.predict(images)
    assert torch.equal(found, method.predict(images))


def test_pixels_that_do_not_count_have_no_centre() -> None:
    images = painted()[0]
    images[:, :, :, :3] = 100.0
    valid = torch.ones(6, 10, 12, dtype=torch.bool)
    valid[:, :, :3] = False
    method = pixels()
    method.fit_support([Batch(images, valid_NHW=valid)])
    assert method.centres_KD.max() < 4


def test_memory_is_bounded_by_the_number_of_samples() -> None:
    method, images = pixels(samples=50), painted()[0]
    method.fit_support(Batch(images) for _ in range(3))
    assert method.centres_KD.isfinite().all()
    with pytest.raises(ValueError, match="0 valid pixels for 4 clusters"):
        method.fit_support([Batch(images, valid_NHW=torch.zeros(6, 10, 12, dtype=torch.bool))])


def test_samples_are_drawn_evenly_from_all_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    method = pixels(clusters=2, samples=400)
    # A tenth of the pixels are bright, all in the last batch; so are a tenth of 400 samples, give or take.
    dark = [Batch(torch.zeros(1, 3, 30, 30) + 0.01 * torch.randn(1, 3, 30, 30)) for _ in range(9)]
    bright = Batch(torch.ones(1, 3, 30, 30) + 0.01 * torch.randn(1, 3, 30, 30))
    kept: list[Tensor] = []

    class Watched(cluster.MiniBatchKMeans):
        def fit(self, features, y=None, sample_weight=None):
            kept.append(torch.from_numpy(features))
            return super().fit(features)

    monkeypatch.setattr(cluster, "MiniBatchKMeans", Watched)
    method.fit_support([*dark, bright])
    (samples,) = kept
    assert len(samples) == 400 and 15 <= int((samples[:, 0] > 0.5).sum()) <= 70


def _fit_on_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.manual_seed(rank)
    method = build_method(PixelKMeans(), Task(4))
    images = painted()[0]
    method.fit_support([Batch(images[:2] if rank == 0 else images[2:])])
    torch.save(method.centres_KD.detach(), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ranks_that_share_the_images_have_the_same_centres(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_fit_on_rank, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
    method = pixels()
    method.fit_support([Batch(painted()[0])])
    torch.testing.assert_close(matched(first), matched(method.centres_KD.detach()), rtol=0, atol=0.02)


class Coordinates(nn.Module):
    """In place of a trunk: every feature is its own row and column."""

    out_channels = 2

    def forward(self, images_NCHW: Tensor) -> Tensor:
        height, width = (side // 2 for side in images_NCHW.shape[2:])
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        return torch.stack((rows, columns)).float().expand(len(images_NCHW), -1, -1, -1)


def places(config: RelativePosition | CoOccurrence, directions: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
    """The first and second places, [N, M, 2] each, of the pairs of 40 x 60 pixels."""
    method = build_method(config, Task(3))
    assert isinstance(method, PatchPairMethod)
    method.trunk, method.head = Coordinates(), nn.Identity()  # type: ignore[assignment]
    pairs, counted = method.compare(Batch(torch.zeros(len(directions), 3, 40, 60)), directions, distances)
    assert counted.all()
    return pairs[..., :2], pairs[..., 2:]


def test_a_partner_lies_where_its_direction_and_distance_say() -> None:
    torch.manual_seed(0)
    directions = torch.arange(8).repeat(2, 20)
    first, second = places(RelativePosition(VGG(2), patch=8), directions, torch.full(directions.shape, 16.0))
    steps = {0: (0, 8), 1: (6, 6), 2: (8, 0), 3: (6, -6), 4: (0, -8), 5: (-6, -6), 6: (-8, 0), 7: (-6, 6)}
    for n, m in torch.cartesian_prod(torch.arange(2), torch.arange(160)).tolist():
        assert tuple((second - first)[n, m].int().tolist()) == steps[int(directions[n, m])]
    both = torch.cat((first, second))
    assert both.min() >= 0 and both[..., 0].max() <= 19 and both[..., 1].max() <= 29
    # From one border to the other, not only from the middle.
    assert both[..., 1].min() == 0 and both[..., 1].max() == 29


def test_images_too_small_for_the_patches_are_told() -> None:
    with pytest.raises(ValueError, match="images of 40 pixels a side are too small for patches 60 pixels apart"):
        places(RelativePosition(VGG(2)), torch.full((1, 1), 2), torch.full((1, 1), 60.0))


@pytest.mark.parametrize("config", [RelativePosition(VGG(2), pairs=5), CoOccurrence(VGG(2), pairs=5)])
def test_pairs_count_where_both_patches_do(config: RelativePosition | CoOccurrence) -> None:
    torch.manual_seed(0)
    method = build_method(config, Task(3))
    images = torch.randn(2, 3, 64, 64)
    pairs = 10 if isinstance(config, RelativePosition) else 12
    assert method(Batch(images)).count.item() == pairs
    step = method(Batch(images, valid_NHW=torch.zeros(2, 64, 64, dtype=torch.bool)))
    assert step.count.item() == 0 and step.loss().item() == 0


def test_chance_is_what_an_untrained_head_has() -> None:
    torch.manual_seed(0)
    images = torch.randn(16, 3, 64, 64)
    for config, chance in ((RelativePosition(VGG(4), pairs=64), math.log(8)), (CoOccurrence(VGG(4)), math.log(2))):
        assert build_method(config, Task(3))(Batch(images)).loss().item() == pytest.approx(chance, rel=0.1)
