import numpy as np
import pytest

from miseg.data.samples import IGNORE_LABEL
from miseg.data.sources.street_scenes.streets import CLASSES, COLOURS, HEIGHT, WIDTH, draw_scene


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(0, index) for index in range(60)]


def test_a_scene_is_a_function_of_seed_and_index():
    image, mask = draw_scene(3, 5)
    again, mask_again = draw_scene(3, 5)
    assert np.array_equal(image, again) and np.array_equal(mask, mask_again)
    for other in (draw_scene(3, 6), draw_scene(4, 5)):
        assert not np.array_equal(image, other[0]) and not np.array_equal(mask, other[1])


def test_shapes_types_and_labels(scenes):
    assert len(CLASSES) == len(COLOURS) == 11
    for image, mask in scenes:
        assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8
        assert mask.shape == (HEIGHT, WIDTH) and mask.dtype == np.uint8
        assert set(np.unique(mask)) <= set(range(11)) | {IGNORE_LABEL}


@pytest.mark.parametrize("size", [(16, 16), (64, 200), (180, 240)])
def test_other_sizes(size):
    image, mask = draw_scene(0, 0, height=size[0], width=size[1])
    assert image.shape == (*size, 3) and mask.shape == size


def test_every_class_and_unlabelled_pixels_occur(scenes):
    counts = np.sum([np.bincount(mask.ravel(), minlength=256) for _, mask in scenes], axis=0)
    assert (counts[:11] > 0.001 * counts.sum()).all()
    assert 0.005 < counts[IGNORE_LABEL] / counts.sum() < 0.1


def test_poles_are_thin(scenes):
    pole = CLASSES.index("pole")
    widths = []
    for _, mask in scenes:
        padded = np.pad(mask == pole, ((0, 0), (1, 1))).astype(np.int8)
        starts, stops = (np.flatnonzero(np.diff(padded, axis=1).ravel() == sign) for sign in (1, -1))
        widths.extend(stops - starts)
    assert np.median(widths) <= 2


def test_mean_colour_alone_does_not_tell_classes(scenes):
    """Nearest class colour, the simplest classifier there is, stays far from solving the scenes."""
    pixels = np.concatenate([image.reshape(-1, 3) for image, _ in scenes]).astype(np.float32)
    labels = np.concatenate([mask.ravel() for _, mask in scenes])
    pixels, labels = pixels[labels < 11], labels[labels < 11]
    means = np.stack([pixels[labels == k].mean(0) for k in range(11)])
    nearest = ((pixels[:, None] - means[None]) ** 2).sum(-1).argmin(1)
    recall = [(nearest[labels == k] == k).mean() for k in range(11)]
    assert np.mean(recall) < 0.4


@pytest.mark.parametrize("bad", [{"seed": -1}, {"index": -1}, {"height": 8}, {"width": 0}])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match=str(next(iter(bad.values())))):
        draw_scene(**({"seed": 0, "index": 0} | bad))
