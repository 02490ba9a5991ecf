"""The dense CRF against slow mean-field inference with every pair of pixels, and its bad input."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from miseg.evaluation.crf import DenseCRF, available, dense_crf

needs_crf = pytest.mark.skipif(not available(), reason="the extra crf is not installed")


def slow_dense_crf(image: np.ndarray, probabilities: np.ndarray, settings: DenseCRF) -> np.ndarray:
    """Algorithm 1 of Krähenbühl and Koltun with explicit N x N kernels, symmetrically normalised, in float64."""
    classes, height, width = probabilities.shape
    rows, columns = np.mgrid[:height, :width]
    positions = np.stack([rows, columns], -1).reshape(-1, 2).astype(float)
    colours = image.reshape(-1, 3).astype(float)

    def squared(values: np.ndarray) -> np.ndarray:
        return ((values[:, None] - values[None]) ** 2).sum(-1)

    near, alike = squared(positions), squared(colours)
    kernels = [
        (settings.gaussian_weight, np.exp(-near / (2 * settings.theta_gamma**2))),
        (
            settings.bilateral_weight,
            np.exp(-near / (2 * settings.theta_alpha**2) - alike / (2 * settings.theta_beta**2)),
        ),
    ]
    unary = -np.log(probabilities.reshape(classes, -1))
    message_weights = []
    for weight, kernel in kernels:
        norm = 1 / np.sqrt(kernel.sum(1))
        message_weights.append(weight * norm[:, None] * kernel * norm[None])
    total = sum(message_weights)

    def softmax(energy: np.ndarray) -> np.ndarray:
        shifted = np.exp(energy - energy.max(0))
        return shifted / shifted.sum(0)

    q = softmax(-unary)
    for _ in range(settings.iterations):
        q = softmax(-unary + q @ total)
    return q.reshape(classes, height, width)


def example(seed: int = 0, size: tuple[int, int] = (14, 18)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image of two flat halves, and what a noisy network says of it; with the truth."""
    generator = np.random.default_rng(seed)
    truth = np.zeros(size, dtype=int)
    truth[:, size[1] // 2 :] = 1
    image = np.where(truth[..., None] == 1, [200, 60, 40], [30, 90, 160]) + generator.integers(-4, 5, (*size, 3))
    sure = np.where(generator.random(size) < 0.15, 0.35, 0.65)
    probabilities = np.stack([np.where(truth == k, sure, 1 - sure) * 0.9 + 0.05 for k in range(2)])
    probabilities = np.concatenate([probabilities * 0.9, np.full((1, *size), 0.1)])
    return image.clip(0, 255).astype(np.uint8), probabilities / probabilities.sum(0), truth


@needs_crf
@pytest.mark.parametrize("iterations", [1, 5, 10])
def test_it_equals_slow_inference_up_to_the_lattices_approximation(iterations: int) -> None:
    image, probabilities, _ = example()
    settings = DenseCRF(iterations, theta_alpha=6, theta_beta=13, theta_gamma=2, bilateral_weight=2, gaussian_weight=1)
    found = dense_crf(image, probabilities, iterations, settings=settings)
    expected = slow_dense_crf(image, probabilities, settings)
    assert np.abs(found - expected).mean() < 0.02 and np.abs(found - expected).max() < 0.15
    assert (found.argmax(0) == expected.argmax(0)).mean() > 0.98


@needs_crf
def test_it_mends_noise_inside_of_edges() -> None:
    image, probabilities, truth = example(size=(40, 60))
    before = (probabilities.argmax(0) == truth).mean()
    after = (dense_crf(image, probabilities, 5).argmax(0) == truth).mean()
    assert before < 0.9 and after > 0.99


@needs_crf
def test_without_pairwise_terms_the_probabilities_come_back() -> None:
    image, probabilities, _ = example()
    settings = DenseCRF(bilateral_weight=0, gaussian_weight=0)
    found = dense_crf(torch.from_numpy(image), torch.from_numpy(probabilities), 3, settings=settings)
    np.testing.assert_allclose(found, probabilities, atol=1e-5)
    sigmoids = 0.5 * probabilities
    np.testing.assert_allclose(dense_crf(image, sigmoids, 3, settings=settings), probabilities, atol=1e-5)


@needs_crf
def test_sure_probabilities_stay_finite() -> None:
    image, _, truth = example()
    sure = np.stack([(truth == k).astype(np.float64) for k in range(3)])
    found = dense_crf(image, sure, 2)
    assert np.isfinite(found).all() and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_unequal_sizes_are_an_error() -> None:
    image, probabilities, _ = example()
    with pytest.raises(ValueError, match="an image of 14 x 18 pixels with probabilities of 14 x 17: resize one"):
        dense_crf(image, probabilities[:, :, 1:], 1)


@pytest.mark.parametrize("bad", ["float image", "four channels", "two axes", "integers", "logits", "nan"])
def test_other_bad_input_is_named(bad: str) -> None:
    image, probabilities, _ = example()
    image, probabilities, message = {
        "float image": (image / 255.0, probabilities, "expected uint8"),
        "four channels": (np.concatenate([image, image[..., :1]], -1), probabilities, "expected uint8"),
        "two axes": (image, probabilities[0], r"expected floating \[K, H, W\]"),
        "integers": (image, (probabilities > 0.5).astype(int), r"expected floating \[K, H, W\]"),
        "logits": (image, 5 * probabilities - 2, "they lie in 0..1; logits take a softmax"),
        "nan": (image, np.full_like(probabilities, np.nan), "they lie in 0..1"),
    }[bad]
    with pytest.raises(ValueError, match=message):
        dense_crf(image, probabilities, 1)


@pytest.mark.parametrize(("name", "value"), [("iterations", 0), ("theta_beta", 0.0), ("gaussian_weight", -1.0)])
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} = {value}: use"):
        DenseCRF(**{name: value})


def test_without_the_extra_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pydensecrf", "pydensecrf.densecrf"):
        monkeypatch.setitem(sys.modules, module, None)
    image, probabilities, _ = example()
    assert not available()
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'miseg\[crf\]'"):
        dense_crf(image, probabilities, 1)
