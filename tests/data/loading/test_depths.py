"""Images of 16 bits and float are augmented, batched and standardised as those of 8 bits are."""

from dataclasses import replace

import numpy as np
import pytest

from miseg.data.checks import encode_png
from miseg.data.configs import Augmentation
from miseg.data.loading.augmentation import augment, padding_colour, prepare
from miseg.data.loading.batches import evaluation_batches, training_batches
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.samples import DataSetInfo, Sample
from tests.data.packed.test_chips import Chips

SIZE = (20, 28)
EVERYTHING = Augmentation(resize=24, scale=(0.6, 1.6), crop=(30, 26), flip=0.5)
KINDS = {"uint8": 255, "uint16": 4095, "float32": 3}


def image_of(kind, bands, seed=0):
    values = np.random.default_rng(seed).random((*SIZE, bands)) * KINDS[kind]
    return values.astype(kind) if kind == "float32" else np.rint(values).clip(1).astype(kind)


def mask_of(seed=0):
    return np.random.default_rng(seed).integers(0, 3, SIZE, dtype=np.uint8)


def packed(folder, kind, bands=4, images=3, nodata=0, holes=True):
    info = DataSetInfo(
        "deep", ("a", "b", "c"), ((0, 0, 0),) * 3, channels=bands, full_scale=KINDS[kind], nodata=nodata, dtype=kind
    )
    samples = []
    for number in range(images):
        image = image_of(kind, bands, number)
        if holes:
            image[:5, :7] = 0
        samples.append(Sample(f"{number}", "train", image, encode_png(mask_of(number))))
    return PackedDataset.open(pack(Chips(info, samples), folder, ["train"]).path)


def bilinear(line, want):
    """A row of float64 at `want` pixels: triangle weights over the pixels that it covers."""
    have = len(line)
    scale = max(have / want, 1.0)
    centres = (np.arange(want) + 0.5) * have / want
    weights = np.maximum(0, 1 - np.abs(np.arange(have) + 0.5 - centres[:, None]) / scale)
    return (weights / weights.sum(1, keepdims=True)) @ line


@pytest.mark.parametrize("kind", ["uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("size", [(9, 40), (33, 17)])
def test_resampling_is_that_of_float64(kind, bands, size):
    image = image_of(kind, bands)
    found, _ = prepare(image, None, Augmentation(resize=size))
    across = np.apply_along_axis(bilinear, 1, image.astype(np.float64), size[1])
    expected = np.apply_along_axis(bilinear, 0, across, size[0])
    assert found.dtype == kind
    np.testing.assert_allclose(found, expected, atol=0.51 if kind == "uint16" else 1e-5)


@pytest.mark.parametrize("kind", ["uint16", "float32"])
@pytest.mark.parametrize("seed", range(10))
def test_the_same_values_are_moved_as_those_of_8_bits(kind, seed):
    image, mask = image_of("uint8", 4), mask_of()
    views = [
        augment(image.astype(a_kind), mask, EVERYTHING, np.random.default_rng(seed), (1, 2, 3, 4))
        for a_kind in ("uint8", kind)
    ]
    (eight, labels), (deep, deep_labels) = views
    assert deep.dtype == kind and np.array_equal(labels, deep_labels)
    # PIL rounds 8 bits after each of two passes.
    np.testing.assert_allclose(deep, eight.astype(np.float64), atol=1.51)


@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_padding_is_the_mean_in_stored_values(tmp_path, kind):
    dataset = packed(tmp_path / "out", kind)
    colour = padding_colour(Augmentation(), dataset.info)
    assert colour.dtype == kind
    np.testing.assert_allclose(colour / KINDS[kind], dataset.info.mean, atol=0.5 / KINDS["uint16"])


@pytest.mark.parametrize("kind", list(KINDS))
def test_batches_have_what_is_stored(tmp_path, kind):
    dataset = packed(tmp_path / "out", kind, holes=False)
    (batch,) = evaluation_batches(dataset, "train", Augmentation(), batch_size=3)
    for number in range(3):
        np.testing.assert_array_equal(batch["images"][number], image_of(kind, 4, number))
        np.testing.assert_array_equal(batch["labels"][number], mask_of(number))
    assert batch["images"].dtype == kind


@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_pixels_without_data_count_nowhere_and_mix_with_none(tmp_path, kind):
    dataset = packed(tmp_path / "out", kind)
    colour = padding_colour(Augmentation(), dataset.info)
    (whole,) = evaluation_batches(dataset, "train", Augmentation(), batch_size=3)
    assert (whole["labels"][:, :5, :7] == 255).all() and (whole["labels"][:, 5:] < 255).all()
    assert (whole["images"][:, :5, :7] == colour).all()
    steps = {"seed": 1, "order": "shuffle", "batch_size": 3, "start_step": 0, "stop_step": 4}
    for batch in training_batches(dataset, "train", replace(EVERYTHING, flip=0.0), **steps):
        # Nothing is darker than the darkest pixel with data: the value of no data, 0, is in no mixture.
        assert batch["images"].dtype == kind
        hidden = batch["labels"] == 255
        assert hidden.any() and not hidden.all()
        np.testing.assert_array_less(-1e-6, batch["images"] - np.minimum(colour, image_of(kind, 4).min()))


def test_float_of_full_scale_255_is_no_set_of_8_bits(tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "float32", 255)
    dataset = packed(tmp_path / "out", "float32", holes=False)
    assert (dataset.info.full_scale, dataset.info.dtype) == (255, "float32")
    (batch,) = evaluation_batches(dataset, "train", Augmentation(), batch_size=3)
    np.testing.assert_array_equal(batch["images"][0], image_of("float32", 4))
