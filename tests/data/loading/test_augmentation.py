import numpy as np
import pytest
from PIL import Image

from miseg.data.configs import Augmentation
from miseg.data.loading.augmentation import augment, padding_colour, prepare, standardisation, target_size

PAD = (1, 2, 3)


def blocks(height=48, width=64, cell=16):
    """An image whose colour encodes its mask: label k has red = 20 (k + 1)."""
    labels = np.arange((height // cell) * (width // cell), dtype=np.uint8).reshape(height // cell, width // cell)
    mask = labels.repeat(cell, 0).repeat(cell, 1)
    return np.dstack([20 * (mask + 1), 255 - 20 * (mask + 1), np.full_like(mask, 7)]), mask


def view(config, seed=0, image_mask=None):
    image, mask = image_mask or blocks()
    return augment(image, mask, config, np.random.default_rng(seed), PAD)


EVERYTHING = Augmentation(resize=40, scale=(0.5, 2.0), crop=(40, 52), flip=0.5)


@pytest.mark.parametrize("seed", range(30))
def test_image_and_mask_move_together(seed):
    image, mask = view(EVERYTHING, seed)
    assert image.shape == (40, 52, 3) and mask.shape == (40, 52) and image.dtype == mask.dtype == np.uint8
    padded = (image == PAD).all(-1)
    assert np.array_equal(padded, mask == 255)
    # Bilinear and nearest may differ within a pixel or two of an edge: look away from edges only.
    inner = np.ones_like(padded)
    for axis in (0, 1):
        for shift in (-3, -2, -1, 1, 2, 3):
            inner &= np.roll(mask, shift, axis) == mask
    inner[:3], inner[-3:], inner[:, :3], inner[:, -3:] = False, False, False, False
    inner &= ~padded
    assert inner.any()
    assert (image[..., 0] == 20 * (mask.astype(int) + 1))[inner].all()


def test_masks_get_no_new_labels():
    image, mask = blocks()
    mask = np.where(mask % 2, 255, mask).astype(np.uint8)
    for seed in range(20):
        assert set(np.unique(view(EVERYTHING, seed, (image, mask))[1])) <= set(np.unique(mask))


def test_the_generator_decides_everything():
    first, again, other = view(EVERYTHING, 5), view(EVERYTHING, 5), view(EVERYTHING, 6)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_nothing_to_do_leaves_the_image_alone():
    image, mask = blocks()
    for result in (view(Augmentation(flip=0)), prepare(image, mask, Augmentation(crop=(8, 8), scale=(0.5, 2)))):
        assert np.array_equal(result[0], image) and np.array_equal(result[1], mask)


def test_without_a_mask():
    image, _ = blocks()
    result, mask = augment(image, None, EVERYTHING, np.random.default_rng(0), PAD)
    assert mask is None and result.shape == (40, 52, 3)
    assert np.array_equal(result, view(EVERYTHING, 0)[0])


def test_flip():
    image, mask = blocks()
    flipped = view(Augmentation(flip=1))
    assert np.array_equal(flipped[0], image[:, ::-1]) and np.array_equal(flipped[1], mask[:, ::-1])
    share = np.mean([not np.array_equal(view(Augmentation(flip=0.3), seed)[0], image) for seed in range(300)])
    assert 0.2 < share < 0.4


def test_crop_windows_are_uniform_and_reach_the_edges():
    image = np.arange(10, dtype=np.uint8)[None, :, None].repeat(10, 0).repeat(3, 2)
    config = Augmentation(crop=(10, 7), flip=0)
    lefts = [augment(image, None, config, np.random.default_rng(s), PAD)[0][0, 0, 0] for s in range(400)]
    counts = np.bincount(lefts)
    assert len(counts) == 4 and counts.min() > 70


def test_padding_is_the_colour_given_and_ignored_and_keeps_the_whole_image():
    image, mask = blocks(16, 16)
    tops = set()
    for seed in range(40):
        padded, labels = view(Augmentation(crop=(20, 12), flip=0), seed, (image, mask))
        rows = np.flatnonzero((labels != 255).any(1))
        tops.add(rows[0])
        assert len(rows) == 16 and (padded[labels == 255] == PAD).all() and (padded[labels != 255] == image[0, 0]).all()
    assert tops == {0, 1, 2, 3, 4}


def test_padding_at_the_end_leaves_the_image_at_the_top_left():
    image, mask = blocks(16, 16)
    for seed in range(20):
        padded, labels = view(Augmentation(crop=(20, 12), flip=0, padding="end"), seed, (image, mask))
        assert (labels[:16] != 255).all() and (labels[16:] == 255).all() and (padded[16:] == PAD).all()
    lefts = {view(Augmentation(crop=(16, 6), flip=0, padding="end"), seed)[1].tobytes() for seed in range(40)}
    assert len(lefts) > 1, "where the image is larger the window is anywhere"


def test_bicubic_values_stay_in_the_range_of_their_type():
    step = np.zeros((8, 8, 1), np.uint16)
    step[:, 4:] = 65535
    config = Augmentation(resize=(40, 40), flip=0, interpolation="bicubic")
    result, _ = augment(step, None, config, np.random.default_rng(0), [0])
    assert (
        result[:, 0].max() == 0 and result[:, -1].min() == 65535 and (np.diff(result[0, :, 0].astype(int)) >= 0).all()
    )


def test_scale_range_and_list():
    heights = {view(Augmentation(scale=(0.5, 1.0, 2.0), flip=0), seed)[0].shape[0] for seed in range(40)}
    assert heights == {24, 48, 96}
    heights = [view(Augmentation(scale=(0.5, 1.5), flip=0), seed)[0].shape[0] for seed in range(200)]
    assert min(heights) >= 24 and max(heights) <= 72 and len(set(heights)) > 20


@pytest.mark.parametrize(
    ("resize", "size"), [(None, (48, 64)), (24, (24, 32)), ((10, 90), (10, 90)), (100, (100, 133))]
)
def test_resize_in_training_and_evaluation(resize, size):
    image, mask = blocks()
    for result in (view(Augmentation(resize=resize, flip=0)), prepare(image, mask, Augmentation(resize=resize))):
        assert result[0].shape == (*size, 3) and result[1].shape == size
    assert target_size(64, 48, 24) == (32, 24)


def test_other_numbers_of_channels_are_resampled_band_by_band():
    image, _ = blocks()
    four = np.dstack([image, np.zeros_like(image[..., :1])])
    resized, _ = prepare(four, None, Augmentation(resize=24))
    assert resized.shape == (24, 32, 4)
    assert np.array_equal(resized[..., :3], prepare(image, None, Augmentation(resize=24))[0])
    assert prepare(image[..., :1], None, Augmentation(resize=24))[0].shape == (24, 32, 1)


def test_sizes_that_differ():
    image, mask = blocks()
    for call in (lambda: view(EVERYTHING, 0, (image, mask[1:])), lambda: prepare(image, mask[1:], EVERYTHING)):
        with pytest.raises(ValueError, match=r"image \(48, 64\) and mask \(47, 64\)"):
            call()


def test_standardisation(small):
    mean, std = standardisation(Augmentation(), small.info)
    assert mean.dtype == std.dtype == np.float32
    assert mean == pytest.approx(small.info.mean) and std == pytest.approx(small.info.std)
    own = Augmentation(mean=(0.5, 0.25, 0.0), std=(1.0, 2.0, 3.0))
    assert standardisation(own, small.info)[1].tolist() == [1, 2, 3]
    assert padding_colour(own, small.info).tolist() == [128, 64, 0]
    with pytest.raises(ValueError, match=r"augmentation\.mean = \(0\.5,\): the data set has 3 channels"):
        standardisation(Augmentation(mean=(0.5,), std=(1.0,)), small.info)


def test_the_porto_study_resizes_the_shorter_side_to_234_and_crops_224():
    pair = np.zeros((360, 480, 3), np.uint8), np.zeros((360, 480), np.uint8)
    porto = Augmentation(resize=234, crop=(224, 224))
    colour = np.zeros(3, np.uint8)
    image, mask = augment(*pair, porto, np.random.default_rng(0), colour)
    assert image.shape == (224, 224, 3) and mask.shape == (224, 224)
    assert (mask == 0).all(), "nothing was padded: the resized image is larger than the crop"
    assert prepare(*pair, porto)[1].shape == (234, 312)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_window_has_the_values_of_the_whole_resampled_picture(channels, interpolation):
    manner = Image.Resampling[interpolation.upper()]
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(61, 90, channels), dtype=np.uint8)
    mask = rng.integers(256, size=(61, 90), dtype=np.uint8)
    for seed in range(200):
        config = Augmentation(scale=(0.3, 2.5), crop=(48, 40), flip=0, interpolation=interpolation)
        found, labels = augment(image, mask, config, np.random.default_rng(seed), [7] * channels)
        draws = np.random.default_rng(seed)
        factor = draws.uniform(0.3, 2.5)
        size = round(90 * factor), round(61 * factor)
        beyond = size[1] - 48, size[0] - 40
        top, left = (int(draws.integers(min(0, over), max(0, over) + 1)) for over in beyond)
        bands = [Image.fromarray(image[..., band]).resize(size, manner) for band in range(channels)]
        whole = np.stack([*bands, Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)], -1)
        padded = np.pad(whole, ((48, 48), (40, 40), (0, 0)), constant_values=7)[48 + top :, 40 + left :][:48, :40]
        assert np.array_equal(found, padded[..., :-1])
        inside = np.pad(np.ones(whole.shape[:2], bool), ((48, 48), (40, 40)))[48 + top :, 40 + left :][:48, :40]
        assert np.array_equal(labels, np.where(inside, padded[..., -1], 255))
