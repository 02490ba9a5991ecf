"""The rows of the benchmark that are about losses alone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor

from miseg.data.packed.dataset import PackedDataset
from miseg.losses import MixedLoss, RegionMutualInformationLoss, complex_wavelet_mutual_information_parts
from miseg.losses.information import compiled
from miseg.service.benchmarks.rows import BenchmarkRow, device, peak_bytes_of

CLASSES, SIDE = 21, 513
IMAGES = {"cpu": 2, "cuda": 16}


def loss(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Milliseconds for RMI + BCE, forward and backward, as published beside ours: DF 4, R 3, at 513 x 513, 21 classes.

    Two images on a CPU, 16 on a GPU, drawn at random, whatever the data set and the batch size.
    """
    values = _alternating({"as published": published_loss, _name(): ours}, steps, repetitions)
    return BenchmarkRow("loss", "ms", values)


def loss_beside_bce(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """The same beside BCE alone, as PyTorch computes it from one-hot labels that are there already."""
    return BenchmarkRow("loss-beside-bce", "ms", _alternating({_name(): ours, "BCE": None}, steps, repetitions))


def plain_loss(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """`loss`, without a compiler on the machine."""
    with _no_compiler():
        values = _alternating({"as published": published_loss, _name(): ours}, steps, repetitions)
    return BenchmarkRow("loss-plain", "ms", values)


def plain_loss_beside_bce(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """`loss_beside_bce`, without a compiler on the machine."""
    with _no_compiler():
        values = _alternating({_name(): ours, "BCE": None}, steps, repetitions)
    return BenchmarkRow("loss-plain-beside-bce", "ms", values)


def wavelet_loss(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Milliseconds for CWMI beside RMI + BCE, on the logits of `loss`; then CWMI with its cross-entropy."""
    return BenchmarkRow("cwmi", "ms", _alternating(_wavelets_and_regions(), steps, repetitions))


def plain_wavelet_loss(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """`wavelet_loss`, without a compiler on the machine."""
    with _no_compiler():
        return BenchmarkRow("cwmi-plain", "ms", _alternating(_wavelets_and_regions(), steps, repetitions))


def loss_memory(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """MiB at the peak of RMI + BCE, forward and backward with its gradient, beside the logits; in new processes."""
    logits = IMAGES[device().type] * CLASSES * SIDE**2 * 4 / 2**20
    values = []
    for _ in range(repetitions):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            values.append(pool.submit(_peak_bytes_of_a_loss).result() / 2**20)
    return BenchmarkRow("loss-memory", "MiB", {_name(): values, "logits": [logits] * repetitions})


def published_loss(logits_NCHW: Tensor, labels_NHW: Tensor) -> Tensor:
    """λ · BCE + (1 − λ) · RMI at λ ½, DF 4, R 3, computed the way the code of Zhao et al. (2019) computes it.

    Every map is built at full size, the regions are written out in double precision, and the posterior covariance is
    made through an inverse. No label is ignored here.
    """
    classes = logits_NCHW.shape[1]
    one_hot_NCHW = F.one_hot(labels_NHW, classes).float().permute(0, 3, 1, 2)
    flat = logits_NCHW.permute(0, 2, 3, 1).reshape(-1, classes)
    truth = one_hot_NCHW.permute(0, 2, 3, 1).reshape(-1, classes)
    mask = torch.ones_like(labels_NHW, dtype=torch.float32)
    weight = mask.reshape(-1, 1).expand_as(truth)
    bce = F.binary_cross_entropy_with_logits(flat, truth, weight=weight, reduction="sum") / (mask.sum() + 1)

    probabilities_NCHW = logits_NCHW.sigmoid() * mask.unsqueeze(1) + 1e-6
    vectors = []
    for maps_NCHW in (one_hot_NCHW * mask.unsqueeze(1), probabilities_NCHW):
        pooled_NCHW = F.avg_pool2d(maps_NCHW, 4, 4, 2)
        height, width = (side - 2 for side in pooled_NCHW.shape[2:])
        shifts = [pooled_NCHW[:, :, r : r + height, c : c + width] for r in range(3) for c in range(3)]
        vectors.append(torch.stack(shifts, 2).flatten(3).double())
    y, p = (values - values.mean(3, keepdim=True) for values in vectors)
    ridge = 5e-4 * torch.eye(9, dtype=torch.float64, device=logits_NCHW.device)
    cross = y @ p.mT
    posterior = y @ y.mT - cross @ torch.inverse(p @ p.mT + ridge) @ cross.mT
    factor = torch.linalg.cholesky(posterior + ridge)
    rmi_NC = 0.5 * 2 * (factor.diagonal(dim1=2, dim2=3) + 1e-8).log().sum(2)
    rmi = rmi_NC.mean(0).float().sum() / 9
    return 0.5 * bce + 0.5 * rmi


ours = RegionMutualInformationLoss(CLASSES)
wavelets = MixedLoss(complex_wavelet_mutual_information_parts)
wavelets_and_cross_entropy = MixedLoss(complex_wavelet_mutual_information_parts, weight=9 / 19)


def _name(loss: str = "RMI + BCE") -> str:
    compiled_here = device().type == "cpu" and compiled.available()
    return f"{loss}, compiled" if compiled_here else f"{loss}, by PyTorch"


def _wavelets_and_regions() -> dict[str, Callable[[Tensor, Tensor], Tensor] | None]:
    return {_name("CWMI"): wavelets, _name(): ours, _name("CWMI + CE"): wavelets_and_cross_entropy}


@contextlib.contextmanager
def _no_compiler() -> Iterator[None]:
    before = os.environ.get("MISEG_COMPILER")
    os.environ["MISEG_COMPILER"] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ["MISEG_COMPILER"]
        else:
            os.environ["MISEG_COMPILER"] = before


def _drawn() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    images = IMAGES[device().type]
    logits_NCHW = torch.randn(images, CLASSES, SIDE, SIDE, device=device(), requires_grad=True)
    return logits_NCHW, torch.randint(0, CLASSES, (images, SIDE, SIDE), device=device())


def _alternating(
    variants: dict[str, Callable[[Tensor, Tensor], Tensor] | None], steps: int, repetitions: int
) -> dict[str, list[float]]:
    """Milliseconds of a forward and backward pass, the median of `steps` is a repetition's; None is BCE alone."""
    logits_NCHW, labels_NHW = _drawn()
    one_hot_NCHW = F.one_hot(labels_NHW, CLASSES).permute(0, 3, 1, 2).to(logits_NCHW.dtype).contiguous()
    values: dict[str, list[float]] = {name: [] for name in variants}
    for repetition in range(-1, repetitions):
        for name, compute in variants.items():
            seconds = []
            for _ in range(steps):
                logits_NCHW.grad = None
                _wait()
                started = time.perf_counter()
                if compute is None:
                    F.binary_cross_entropy_with_logits(logits_NCHW, one_hot_NCHW).backward()
                else:
                    compute(logits_NCHW, labels_NHW).backward()
                _wait()
                seconds.append(time.perf_counter() - started)
            if repetition >= 0:
                values[name].append(1000 * sorted(seconds)[len(seconds) // 2])
    return values


def _peak_bytes_of_a_loss() -> int:
    logits_NCHW, labels_NHW = _drawn()
    # What libraries set up on first use is not the loss' own.
    ours(logits_NCHW[:1, :, :33, :33], labels_NHW[:1, :33, :33]).backward()
    logits_NCHW.grad = None
    return peak_bytes_of(lambda: ours(logits_NCHW, labels_NHW).backward())


def _wait() -> None:
    if device().type == "cuda":
        torch.cuda.synchronize()
