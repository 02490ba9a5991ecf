from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from miseg.losses import iic_segmentation_loss


def reference(first: Tensor, second: Tensor, mask: Tensor | None, displacement: int) -> Tensor:
    """The paper's sums, a displacement, an image and a pixel at a time, in float64."""
    first, second = first.double(), second.double()
    images, clusters, height, width = first.shape
    valid = torch.ones(images, height, width, dtype=torch.bool) if mask is None else mask
    values = []
    for dy in range(-displacement, displacement + 1):
        for dx in range(-displacement, displacement + 1):
            table = first.new_zeros(clusters, clusters)
            for n in range(images):
                for y in range(height):
                    for x in range(width):
                        other = (y + dy, x + dx)
                        inside = 0 <= other[0] < height and 0 <= other[1] < width
                        if inside and valid[n, y, x] and valid[n, other[0], other[1]]:
                            table = table + torch.outer(first[n, :, y, x], second[n, :, other[0], other[1]])
            if table.sum() == 0:
                continue
            joint = table / table.sum()
            joint = (joint + joint.T) / 2
            product = torch.outer(joint.sum(1), joint.sum(0))
            some = joint > 0
            values.append((joint[some] * (joint[some] / product[some]).log()).sum())
    return -torch.stack(values).mean()


def views(seed: int = 0, size: tuple[int, int, int, int] = (2, 3, 6, 5), sharp: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = sharp * torch.randn(*size, generator=generator, dtype=torch.float64)
    second = logits + torch.randn(*size, generator=generator, dtype=torch.float64)
    return logits.softmax(1), second.softmax(1)


def some_mask(size: tuple[int, int, int] = (2, 6, 5)) -> Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(7)) < 0.6


@pytest.mark.parametrize("displacement", [0, 1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_papers_sums_with_gradients(displacement: int, masked: bool) -> None:
    mask = some_mask() if masked else None
    given = [view.requires_grad_() for view in views()]
    loss = iic_segmentation_loss(*given, mask, displacement)
    expected = reference(*given, mask, displacement)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    found, wanted = (torch.autograd.grad(value, given) for value in (loss, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-11)


def test_float32_and_autocast_stay_near_float64() -> None:
    first, second = views(size=(3, 5, 33, 40))
    exact = iic_segmentation_loss(first, second)
    torch.testing.assert_close(iic_segmentation_loss(first.float(), second.float()).double(), exact, rtol=2e-5, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        found = iic_segmentation_loss(first.float(), second.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=2e-5, atol=0)


def test_equal_certain_balanced_views_have_minus_log_k_and_uniform_ones_zero() -> None:
    certain = torch.eye(4)[torch.arange(4).repeat(2, 1)].movedim(-1, 1)[..., None].repeat(1, 1, 1, 3).contiguous()
    assert iic_segmentation_loss(certain, certain, displacement=0).item() == pytest.approx(-math.log(4), abs=1e-6)
    assert iic_segmentation_loss(certain.flip(1), certain, displacement=0).item() < -0.5
    one_cluster = torch.zeros(2, 4, 4, 3)
    one_cluster[:, 2] = 1
    assert iic_segmentation_loss(one_cluster, one_cluster, displacement=1).item() == pytest.approx(0, abs=1e-6)
    even = torch.full((2, 4, 4, 3), 0.25)
    assert iic_segmentation_loss(even, even, displacement=2).item() == pytest.approx(0, abs=1e-6)


def test_numbering_of_clusters_and_order_of_views_and_images_change_nothing() -> None:
    first, second = views()
    mask = some_mask()
    loss = iic_segmentation_loss(first, second, mask, 2)
    order = torch.tensor([2, 0, 1])
    for one, other, valid in (
        (first[:, order], second[:, order], mask),
        (second, first, mask),
        (first.flip(0), second.flip(0), mask.flip(0)),
        (first.flip(3), second.flip(3), mask.flip(2)),
    ):
        torch.testing.assert_close(iic_segmentation_loss(one, other, valid, 2), loss, rtol=1e-10, atol=0)


def test_masked_pixels_have_no_influence() -> None:
    first, second = views()
    mask = some_mask()
    loss = iic_segmentation_loss(first, second, mask, 2)
    noise = torch.rand_like(first)
    hidden = ~mask[:, None]
    changed = (torch.where(hidden, noise, view) for view in (first, second))
    torch.testing.assert_close(iic_segmentation_loss(*changed, mask, 2), loss, rtol=1e-12, atol=0)


def test_nothing_counts() -> None:
    first, second = (view.requires_grad_() for view in views())
    loss = iic_segmentation_loss(first, second, torch.zeros(2, 6, 5, dtype=torch.bool), 2)
    loss.backward()
    assert loss.item() == 0 and first.grad is not None and first.grad.count_nonzero() == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"second": torch.rand(2, 3, 6, 6)}, r"expected \[N, K, H, W\] twice"),
        ({"first": torch.ones(2, 3, 6, 5, dtype=torch.int64)}, "floating probabilities"),
        ({"mask": torch.ones(2, 6, 6)}, r"a mask of shape \(2, 6, 6\)"),
        ({"displacement": 5}, r"displacement = 5: .*less than the smaller side \(5 pixels\)"),
        ({"displacement": -1}, "displacement = -1: use 0 or more"),
    ],
)
def test_refuses_what_does_not_fit(change: dict, reason: str) -> None:
    first, second = views()
    given = {"first": first, "second": second, "mask": None, "displacement": 1} | change
    with pytest.raises(ValueError, match=reason):
        iic_segmentation_loss(given["first"], given["second"], given["mask"], given["displacement"])


SHARES = (slice(0, 1), slice(1, 4))


def _of_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    first, second = (view[SHARES[rank]].float().requires_grad_() for view in views(size=(4, 3, 6, 5)))
    loss = iic_segmentation_loss(first, second, some_mask((4, 6, 5))[SHARES[rank]], 2)
    loss.backward()
    alone = iic_segmentation_loss(first, second, displacement=2, across_ranks=False)
    torch.save((loss.detach(), first.grad, second.grad, alone.detach()), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_ranks_with_unequal_shares_equal_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_of_rank, args=(str(tmp_path),), nprocs=2)
    first, second = (view.float().requires_grad_() for view in views(size=(4, 3, 6, 5)))
    loss = iic_segmentation_loss(first, second, some_mask((4, 6, 5)), 2)
    loss.backward()
    for rank, share in enumerate(SHARES):
        of_rank, *gradients, alone = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(of_rank, loss.detach(), rtol=1e-5, atol=0)
        for found, whole in zip(gradients, (first.grad, second.grad), strict=True):
            assert whole is not None
            # A trainer takes the mean over ranks.
            torch.testing.assert_close(found / 2, whole[share], rtol=1e-4, atol=1e-7)
        assert abs(alone - loss.detach()) > 1e-3
