from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from miseg.data.samples import Sample
from miseg.data.sources.textures import Textures, draw_textures


def test_both_classes_have_the_same_values_and_stripes_run_their_way():
    values: dict[int, list[np.ndarray]] = {0: [], 1: []}
    for index in range(20):
        image, mask = draw_textures(0, index)
        assert image.shape == (64, 64, 3) and set(np.unique(mask)) == {0, 1}
        assert abs(mask.mean() - 0.5) < 0.01
        grey = image[..., 0].astype(float)
        across, down = (np.abs(np.diff(grey, axis=axis, append=grey.take([-1], axis))) for axis in (1, 0))
        assert across[mask == 0].mean() < 0.6 * down[mask == 0].mean()
        assert down[mask == 1].mean() < 0.6 * across[mask == 1].mean()
        for label in values:
            values[label].append(grey[mask == label])
    first, second = (np.sort(np.concatenate(values[label])) for label in (0, 1))
    quantiles = np.linspace(0.05, 0.95, 19)
    # Bright and dark are half of each class, so that quantiles but those at the half agree.
    apart = np.abs(np.quantile(first, quantiles) - np.quantile(second, quantiles))
    assert np.delete(apart, 9).max() < 8


def test_splits_have_images_of_their_own_and_seeds_too():
    source = Textures({"train": 2, "val": 1}, size=32)
    drawn = {split: list(source.samples(split)) for split in source.available()}
    images = [sample.image for samples in drawn.values() for sample in samples if isinstance(sample, Sample)]
    assert len(set(images)) == 3 and images != [s.image for s in Textures({"train": 2}, 1, 32).samples("train")]
    assert Image.open(io.BytesIO(images[0])).size == (32, 32)
    assert images == [s.image for split in drawn for s in source.samples(split)]
    with pytest.raises(ValueError, match="split 'test': textures are drawn for train, val"):
        list(source.samples("test"))
