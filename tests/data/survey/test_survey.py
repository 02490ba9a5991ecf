"""The survey of data made for it: counts by hand, every problem with its mend, copies, any bands and bits."""

import io

import numpy as np
import pytest
from PIL import Image

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.samples import DataSetInfo, Sample
from miseg.data.survey.duplicates import find_copies
from miseg.data.survey.measures import borders_and_isolated
from miseg.data.survey.picture import charted, displayed, draw, overlaid
from miseg.data.survey.survey import survey
from miseg.data.survey.table import percent

SIZE = (40, 48)
CLASSES = ("ground", "tree", "house")


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def field(seed, size=SIZE, bands=3):
    """A smooth picture, uint8, as photographs are and noise is not."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (12, 12, bands), dtype=np.uint8)
    layers = [Image.fromarray(coarse[..., band]).resize(size[::-1], Image.Resampling.BICUBIC) for band in range(bands)]
    return np.stack([np.asarray(layer) for layer in layers], -1)


def blocks(*labels, size=SIZE):
    """A mask of upright stripes of these labels."""
    return np.repeat(np.array(labels, np.uint8), -(-size[1] // len(labels)))[: size[1]][None].repeat(size[0], 0)


class Made:
    """Images and masks given as arrays: {split: [(image, mask or None)]}."""

    def __init__(self, splits, classes=CLASSES, **info):
        self.splits = splits
        colours = tuple((40 * n % 256, 255 - 40 * n % 256, 90) for n in range(len(classes)))
        self.info = DataSetInfo("made", classes, colours, **info)

    def available(self):
        return tuple(self.splits)

    def samples(self, split):
        for number, (image, mask) in enumerate(self.splits[split]):
            encoded = png(image) if image.dtype == np.uint8 and image.shape[2] == 3 else image
            yield Sample(f"{split}/{number}", split, encoded, None if mask is None else png(mask))

    def pack(self, out):
        return PackedDataset.open(pack(self, out, self.available()).path)


def good(count, first=0):
    return [(field(first + number), blocks(0, 1, 2, 255)) for number in range(count)]


def problems(tmp_path, splits, classes=CLASSES):
    return survey(Made(splits, classes).pack(tmp_path / "made")).problems


def test_counts_are_those_of_the_masks(tmp_path):
    train = [(field(1), blocks(0, 1)), (field(2, (20, 24)), blocks(0, 0, 255, 2, size=(20, 24))), (field(3), None)]
    dataset = Made({"train": train, "val": good(5, 10)}).pack(tmp_path / "made")
    result = survey(dataset)
    split = result.splits["train"]
    assert (split.images, split.masks) == (3, 2)
    assert split.pixels == (20 * 48 + 20 * 12, 20 * 48, 20 * 6) and split.ignored == 20 * 6
    assert split.shown == (2, 1, 1)
    assert (split.smallest, split.median, split.largest) == ((20, 24), SIZE, SIZE)
    assert split.share(0) == pytest.approx(1200 / 2280) and split.ignored_share == pytest.approx(120 / 2400)
    table = [line.split() for line in result.lines()]
    assert ["train", "3", "2", "20x24", "40x48", "40x48", "5.00", "%"] in table
    assert ["1", "tree", "42.1", "%", "1", "33.3", "%", "5"] in table
    assert {split for split, _ in result.examples} == {"train", "val"} and len(set(result.examples)) == 4


def test_nothing_is_told_of_good_data(tmp_path):
    result = survey(Made({"train": good(12), "val": good(6, 50)}).pack(tmp_path / "made"))
    assert result.problems == () and result.copies == () and result.series is None
    assert result.lines()[-1] == "nothing looks wrong"


@pytest.mark.parametrize(
    ("train", "val", "sentence"),
    [
        ([blocks(0)] * 6, None, "every labelled pixel of train is ground: "),
        ([blocks(255)] * 6, None, "no mask of train has a labelled pixel, all are ignored: "),
        ([blocks(0, 1, 2)] * 5 + [blocks(255)], None, "1 of 6 masks of train have no labelled pixel (train/5): "),
        ([blocks(0, 1, 2, 255, 255, 255, 255)] * 6, None, "of train's pixels are ignored: "),
        ([blocks(0, 1)] * 6, [blocks(1, 0)] * 6, "in no mask at all: house: "),
        ([blocks(0, 1)] * 6, None, "in val alone, so never learned: house: "),
        (None, [blocks(0, 1)] * 6, "not in val, so not scored there: house: "),
        (None, [blocks(0, 1, 2)] * 4, "val has 4 images, scores of so few vary much by chance: "),
    ],
)
def test_what_looks_wrong_is_told(tmp_path, train, val, sentence):
    masks = {"train": train or [blocks(0, 1, 2)] * 6, "val": val or [blocks(0, 1, 2)] * 6}
    splits = {
        split: [(field(100 * number + n), mask) for n, mask in enumerate(masks[split])]
        for number, split in enumerate(masks)
    }
    told = problems(tmp_path, splits)
    assert sum(sentence in problem for problem in told) == 1, told


def test_a_rare_class_is_told_with_its_share(tmp_path):
    mask = blocks(0, 1)
    rare = mask.copy()
    rare[5, 5:7] = 2
    train = [(field(n), rare if n == 3 else mask) for n in range(8)]
    told = problems(tmp_path, {"train": train, "val": good(5, 50)})
    assert next(problem for problem in told if problem.startswith("under 0.10 % of train's pixels")).startswith(
        "under 0.10 % of train's pixels: house (0.013 % in 1 images): "
    )


def test_constant_images_are_told(tmp_path):
    train = [*good(5), (np.full((*SIZE, 3), 7, np.uint8), blocks(0, 1, 2))]
    told = problems(tmp_path, {"train": train})
    assert [p for p in told if "of one value throughout (train/5)" in p]


@pytest.mark.parametrize("damage", ["none", "jpeg", "interpolated"])
def test_masks_of_ids_that_were_compressed_or_interpolated_are_told(tmp_path, damage):
    classes = tuple(f"class {n}" for n in range(12))
    rng = np.random.default_rng(0)
    train = []
    for number in range(6):
        # Regions of all shapes: each pixel has the class whose smooth field is highest there.
        heights = [Image.fromarray(rng.random((9, 9)).astype(np.float32)) for _ in classes]
        grown = [np.asarray(height.resize((96, 96), Image.Resampling.BICUBIC)) for height in heights]
        mask = np.argmax(grown, 0).astype(np.uint8)
        if damage == "jpeg":
            buffer = io.BytesIO()
            Image.fromarray(mask).save(buffer, "JPEG", quality=95)
            damaged = np.asarray(Image.open(buffer))
        elif damage == "none":
            damaged = mask
        else:
            damaged = np.asarray(Image.fromarray(mask).resize((48, 48), Image.Resampling.BILINEAR))
        train.append((field(number, damaged.shape), damaged.clip(0, 11)))
    told = problems(tmp_path, {"train": train}, classes)
    assert any("masks of train are speckled" in problem for problem in told) == (damage != "none")


@pytest.mark.parametrize("change", ["none", "jpeg", "half", "darker"])
def test_copies_across_splits_are_found(tmp_path, change):
    size = (120, 144)
    image = Image.fromarray(field(3, size))
    if change == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=50)
        image = Image.open(buffer)
    elif change == "half":
        image = image.resize((size[1] // 2, size[0] // 2), Image.Resampling.BICUBIC)
    elif change == "darker":
        image = image.point(lambda value: value * 0.7 + 5)
    pixels = np.asarray(image)
    train = [(field(n, size), blocks(0, 1, 2, size=size)) for n in range(12)]
    val = [(field(n, size), blocks(0, 1, 2, size=size)) for n in range(50, 56)]
    val[2] = pixels, blocks(0, 1, 2, size=pixels.shape[:2])
    result = survey(Made({"train": train, "val": val}).pack(tmp_path / "made"))
    assert [(copy.splits, copy.ids) for copy in result.copies] == [(("train", "val"), ("train/3", "val/2"))]
    assert any(
        problem.startswith("1 of 6 images of val (16.7 %) nearly equal one of train, such as val/2 and train/3:")
        for problem in result.problems
    )
    assert any(line.startswith("near-duplicates, val of train: 1 images") for line in result.lines())


def test_two_images_are_copies_only_where_they_are_alike(tmp_path):
    """The mean of two copies is either of them: it must not be all that is compared."""
    same = survey(Made({"train": good(1), "val": good(1)}).pack(tmp_path / "same"))
    other = survey(Made({"train": good(1), "val": good(1, 7)}).pack(tmp_path / "other"))
    assert len(same.copies) == 1 and other.copies == ()


def test_neighbours_of_a_series_that_were_drawn_apart_are_told(tmp_path):
    """Three clips of twelve frames, of which every fourth frame went to val; in blocks nothing is told."""
    frames = []
    for clip in range(3):
        scene = field(clip, (80, 160)).astype(int)
        for frame in range(12):
            noise = np.random.default_rng(100 * clip + frame).integers(-30, 31, (*SIZE, 3))
            shown = scene[20 : 20 + SIZE[0], 4 * frame : 4 * frame + SIZE[1]] + noise
            frames.append((shown.clip(0, 255).astype(np.uint8), blocks(0, 1, 2)))

    class Frames(Made):
        def samples(self, split):
            for sample, number in zip(super().samples(split), self.numbers[split], strict=True):
                yield Sample(f"{split}/frame {number}", split, sample.image, sample.mask)

    def surveyed(name, val):
        numbers = {"train": [n for n in range(36) if n not in val], "val": sorted(val)}
        source = Frames({split: [frames[n] for n in chosen] for split, chosen in numbers.items()})
        source.numbers = numbers
        return survey(source.pack(tmp_path / name))

    apart, block = surveyed("apart", set(range(1, 36, 4))), surveyed("block", set(range(24, 36)))
    assert apart.series is not None and len(apart.series.beside["val"]) >= 8
    assert any("images of val are next to an image of train in a series" in problem for problem in apart.problems)
    assert block.series is not None and block.series.beside == {"val": ()} and block.problems == ()


@pytest.mark.parametrize(
    ("bands", "kind", "info"),
    [
        (1, np.uint8, {}),
        (4, np.uint16, {"full_scale": 10000, "nodata": 0}),
        (2, np.float32, {"full_scale": 1, "dtype": "float32"}),
    ],
)
def test_images_of_any_bands_and_bits_are_surveyed_and_drawn(tmp_path, bands, kind, info):
    def image(seed):
        pixels = field(seed, bands=bands).astype(np.float64)
        scaled = {np.uint8: pixels, np.uint16: pixels * 12 + 1, np.float32: pixels / 255 - 0.5}[kind].astype(kind)
        if "nodata" in info:
            scaled[:4] = 0
        return scaled

    splits = {
        "train": [(image(n), blocks(0, 1, 2, 255)) for n in range(6)],
        "val": [(image(0), blocks(0, 1, 2, 255)), *((image(n), blocks(0, 1, 2)) for n in range(20, 25))],
    }
    dataset = Made(splits, channels=bands, **info).pack(tmp_path / "made")
    result = survey(dataset)
    assert [copy.ids for copy in result.copies] == [("train/0", "val/0")]
    draw(result, dataset, tmp_path / "made.png")
    with Image.open(tmp_path / "made.png") as picture:
        assert picture.size[0] == 1400
    shown = displayed(dataset.pixels("train", 0).image, dataset.info)
    assert shown.shape == (*SIZE, 3) and shown.dtype == np.uint8
    seen = shown[4:] if "nodata" in info else shown
    assert seen.min() == 0 and seen.max() == 255, "stretched to all there is"
    if "nodata" in info:
        assert (shown[:4] == 205).all()


def test_an_overlay_has_the_class_colours_and_stripes_where_ignored(tmp_path):
    dataset = Made({"train": good(5)}).pack(tmp_path / "made")
    mask = blocks(0, 1, 2, 255)
    shown = overlaid(np.full((*SIZE, 3), 100, np.uint8), mask, dataset.info).astype(int)
    for label in range(3):
        expected = 0.45 * 100 + 0.55 * np.array(dataset.info.colours[label])
        assert np.abs(shown[mask == label] - expected).max() <= 0.5
    assert {tuple(pixel) for pixel in shown[mask == 255].tolist()} == {(205,) * 3, (255,) * 3}


def test_data_without_masks_are_surveyed_and_drawn(tmp_path):
    dataset = Made({"unlabelled": [(field(n), None) for n in range(6)]}).pack(tmp_path / "made")
    result = survey(dataset)
    draw(result, dataset, tmp_path / "made.png")
    assert result.problems == () and not any("class" in line for line in result.lines())
    assert (tmp_path / "made.png").stat().st_size > 1000


def test_of_many_classes_the_most_and_the_least_frequent_are_charted(tmp_path):
    classes = tuple(f"class ${n}_" for n in range(40))
    masks = [np.minimum(np.arange(SIZE[0] * SIZE[1]) // (40 + n), 39).astype(np.uint8).reshape(SIZE) for n in range(5)]
    dataset = Made({"train": [(field(n), mask) for n, mask in enumerate(masks)]}, classes).pack(tmp_path / "made")
    result = survey(dataset)
    labels = charted(result)
    totals = result.splits["train"].pixels
    left_out = set(range(40)) - set(labels)
    assert len(labels) == 24 and sum(totals[n] >= max(totals[m] for m in left_out) for n in labels) >= 12
    draw(result, dataset, tmp_path / "made.png")


@pytest.mark.parametrize("seed", range(5))
def test_isolated_pixels_are_those_that_a_loop_counts(seed):
    mask = np.random.default_rng(seed).integers(0, 3, (7, 9)).astype(np.uint8)
    borders = isolated = 0
    for row in range(7):
        for column in range(9):
            near = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            values = [mask[r, c] for r, c in near if 0 <= r < 7 and 0 <= c < 9]
            borders += sum(value != mask[row, column] for value in values)
            isolated += all(value != mask[row, column] for value in values)
    assert borders_and_isolated(mask) == (borders // 2, isolated)


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (1e-6, "<0.001 %"), (0.0004, "0.040 %"), (0.0421, "4.21 %"), (1, "100.0 %")]
)
def test_percentages_never_round_something_to_nothing(share, text):
    assert percent(share) == text


def test_no_splits_to_compare_are_no_copies():
    assert find_copies({}) == ()
