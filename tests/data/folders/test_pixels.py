"""Images of any bands, 8 and 16 bits and float, come out of a packed data set as they went in."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miseg.data.checks import BadFileError
from miseg.data.folders.pixels import read_image, survey_images
from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.moments import Moments, statistics
from miseg.data.packed.packing import pack
from miseg.data.samples import DataSetInfo, Sample
from tests.support.rasters import write_raster


def values(dtype: str, bands: int, seed: int = 0, size: tuple[int, int] = (21, 16)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return rng.normal(-3, 5, (*size, bands)).astype(np.float32)
    return rng.integers(0, 4000 if dtype == "uint16" else 256, (*size, bands)).astype(dtype)


def pixels_of(image: bytes | np.ndarray) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image))) if isinstance(image, bytes) else image


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 7])
def test_tiff_of_any_bands_and_bits_through_a_packed_data_set(dtype: str, bands: int, tmp_path: Path) -> None:
    arrays = [values(dtype, bands, seed) for seed in range(3)]
    paths = [write_raster(tmp_path / f"{number}.tif", array) for number, array in enumerate(arrays)]
    form = survey_images(paths)
    highest = max(float(np.abs(array).max()) for array in arrays)
    scale = {"uint8": 255, "uint16": 4095, "float32": int(np.ceil(highest))}[dtype]
    assert (form.channels, form.dtype, form.full_scale, form.nodata, form.opacity) == (bands, dtype, scale, None, False)

    class Files:
        info = DataSetInfo("files", ("a",), ((0, 0, 0),), channels=bands, full_scale=scale, dtype=form.dtype)

        def available(self) -> tuple[str, ...]:
            return ("train",)

        def samples(self, split: str):
            for path in paths:
                yield Sample(path.stem, split, read_image(path, form).image, None)

    dataset = PackedDataset.open(pack(Files(), tmp_path / "packed", ["train"], max_rejected=0).path)
    assert (dataset.info.dtype, dataset.info.full_scale, dataset.info.channels) == (dtype, scale, bands)
    for index, array in enumerate(arrays):
        image = decode(dataset.read("train", index))[0]
        assert image.dtype == array.dtype and np.array_equal(image, array)
    together = np.concatenate(arrays).astype(np.float64).reshape(-1, bands) / scale
    assert np.allclose(dataset.info.mean, together.mean(0), atol=1e-6)
    assert np.allclose(dataset.info.std, together.std(0), atol=1e-6)


def test_constant_bands_and_very_many_pixels_keep_their_statistics() -> None:
    bright = Moments(1)
    bright.add(np.full((1000, 1), 65535, np.uint16))
    for _ in range(40):  # as many pixels as 64-bit sums of squares would not hold
        bright.count, bright.sums = 2 * bright.count, 2 * bright.sums
    assert statistics([bright], 65535) == ([1.0], [round(1 / 65535, 6)])
    flat = Moments(1)
    flat.add(np.full((10, 1), 0.25, np.float32))
    assert statistics([flat], 1) == ([0.25], [1e-6])


@pytest.mark.parametrize("form", ["png", "jpg", "bmp", "gif", "webp", "tif"])
def test_grey_pictures_are_one_band(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}"
    grey = np.repeat(np.repeat(np.arange(0, 240, 30, dtype=np.uint8)[None], 8, 0), 8, 1)
    picture = Image.fromarray(grey)
    (picture.convert("RGB") if form == "webp" else picture).save(path, **({"lossless": True} if form == "webp" else {}))
    pixels = survey_images([path])
    assert pixels.channels == (3 if form == "webp" else 1)
    image = pixels_of(read_image(path, pixels).image)
    if form != "jpg":
        assert np.array_equal(image, grey[..., None] if image.shape[2] == 1 else np.repeat(grey[..., None], 3, 2))


def test_rgb_files_are_kept_byte_for_byte_and_palettes_become_colours(tmp_path: Path) -> None:
    rgb = values("uint8", 3)
    for form in ("png", "jpg"):
        path = tmp_path / f"a.{form}"
        Image.fromarray(rgb).save(path)
        assert read_image(path, survey_images([path])).image == path.read_bytes()
    Image.fromarray(rgb).quantize(16).save(tmp_path / "p.png")
    shown = np.asarray(Image.open(tmp_path / "p.png").convert("RGB"))
    palette = read_image(tmp_path / "p.png", survey_images([tmp_path / "p.png"]))
    assert np.array_equal(pixels_of(palette.image), shown)


def test_grey_among_colours_is_packed_as_colours(tmp_path: Path) -> None:
    Image.fromarray(values("uint8", 3)).save(tmp_path / "a.png")
    grey = values("uint8", 1)[..., 0]
    Image.fromarray(grey).save(tmp_path / "b.png")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    form = survey_images(paths)
    assert form.channels == 3 and "b.png" in form.notes[0]
    assert np.array_equal(pixels_of(read_image(paths[1], form).image), np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize("bands", [1, 3])
def test_png_of_16_bits_keeps_them(bands: int, tmp_path: Path) -> None:
    import rasterio
    from rasterio.transform import Affine

    array = values("uint16", bands)
    with rasterio.open(
        tmp_path / "a.png",
        "w",
        driver="PNG",
        height=21,
        width=16,
        count=bands,
        dtype="uint16",
        transform=Affine(1, 0, 0, 0, -1, 9),
    ) as file:
        file.write(array.transpose(2, 0, 1))
    form = survey_images([tmp_path / "a.png"])
    assert (form.channels, form.dtype, form.full_scale) == (bands, "uint16", 4095)
    assert np.array_equal(read_image(tmp_path / "a.png", form).image, array)


@pytest.mark.parametrize("dtype", ["int16", "int32", "float64"])
def test_other_numbers_become_float32_without_loss(dtype: str, tmp_path: Path) -> None:
    array = (values("float32", 2) * 100).astype(dtype)
    path = write_raster(tmp_path / "a.tif", array)
    form = survey_images([path])
    image = read_image(path, form).image
    assert isinstance(image, np.ndarray) and image.dtype == np.float32
    assert np.array_equal(image, array.astype(np.float32))


def test_images_of_other_bands_or_bits_are_refused_in_a_sentence(tmp_path: Path) -> None:
    three, four = (
        write_raster(tmp_path / "3.tif", values("uint8", 3)),
        write_raster(tmp_path / "5.tif", values("uint8", 5)),
    )
    deep = write_raster(tmp_path / "deep.tif", values("uint16", 3))
    for other, reason in ((four, "5 bands of uint8"), (deep, "3 bands of uint16")):
        with pytest.raises(
            ValueError, match=rf"{other.name} has {reason}, .*3\.tif 3 bands of uint8: give images of the"
        ):
            survey_images([three, other])
        with pytest.raises(BadFileError, match=rf"{reason}, where the data set has 3 bands of uint8"):
            read_image(other, survey_images([three]))
    with pytest.raises(ValueError, match="no image: check --images"):
        survey_images([])


def test_pixels_without_data_are_told_and_left_out_of_the_statistics(tmp_path: Path) -> None:
    array = values("float32", 2)
    array[:5] = np.nan
    array[7, 3] = 0
    path = write_raster(tmp_path / "a.tif", array)
    form = survey_images([path])
    assert form.nodata == 0 and "without data" in form.notes[0]
    image = read_image(path, form)
    assert isinstance(image.image, np.ndarray) and image.valid is not None
    assert not image.valid[:5].any() and image.valid[5:].all()
    assert (image.image[:5] == 0).all() and image.image[7, 3].any() and np.abs(image.image[7, 3]).max() < 1e-20
    stored = values("uint16", 3)
    stored[3] = 9
    path = write_raster(tmp_path / "b.tif", stored, nodata=9)
    image = read_image(path, survey_images([path]))
    assert image.valid is not None and not image.valid[3].any() and image.valid.sum() == 20 * 16
    high = values("float32", 1)
    high[0, 0] = -3.4e38
    with pytest.raises(ValueError, match=r"c\.tif: holds 3\.4e\+38, which is no measurement"):
        survey_images([write_raster(tmp_path / "c.tif", high)])


def test_a_band_that_is_called_opacity_and_is_none(tmp_path: Path) -> None:
    infrared = values("uint8", 4)
    path = write_raster(tmp_path / "a.tif", infrared, photometric="RGB", alpha="yes")
    form = survey_images([path])
    assert form.channels == 4 and not form.opacity and "taken as a band" in form.notes[0]
    assert np.array_equal(read_image(path, form).image, infrared)
    opaque = infrared.copy()
    opaque[..., 3] = 255
    opaque[2, :, 3] = 0
    path = write_raster(tmp_path / "b.tif", opaque, photometric="RGB", alpha="yes")
    form = survey_images([path])
    image = read_image(path, form)
    assert form.channels == 3 and form.opacity and image.valid is not None
    assert np.array_equal(image.valid, opaque[..., 3] > 0)
    assert np.array_equal(pixels_of(image.image), opaque[..., :3])
    Image.fromarray(opaque).save(tmp_path / "c.png")
    png = read_image(tmp_path / "c.png", survey_images([tmp_path / "c.png"]))
    assert png.valid is not None and np.array_equal(png.valid, image.valid)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_follows_the_mask_s_size(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(values("uint8", 3)).save(path, exif=exif)
    form = survey_images([path])
    stored = np.asarray(Image.open(path))
    upright = read_image(path, form)
    assert upright.size == ((16, 21) if orientation >= 5 else (21, 16))
    if orientation == 1:
        assert upright.image == path.read_bytes()
    elif orientation >= 5:
        as_stored = read_image(path, form, (21, 16))
        assert np.array_equal(pixels_of(as_stored.image), stored) and as_stored.size == (21, 16)
        turned = read_image(path, form, (16, 21))
        assert turned.image == upright.image and np.array_equal(
            np.sort(pixels_of(turned.image), None), np.sort(stored, None)
        )
    else:
        with pytest.raises(BadFileError, match=f"EXIF orientation {orientation}, and the mask's size does not tell"):
            read_image(path, form, (21, 16))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    good = tmp_path / "a.png"
    Image.fromarray(values("uint8", 3)).save(good)
    deep = write_raster(tmp_path / "d.tif", values("uint16", 3, size=(300, 300)))
    cut = tmp_path / "cut.tif"
    cut.write_bytes(deep.read_bytes()[:9000])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    bad = [cut, tmp_path / "text.png", tmp_path / "empty.png", tmp_path / "none.png"]
    form = survey_images([*bad, good])
    for path, reason in zip(bad, ("damaged", "not a picture", "empty file", "cannot be read"), strict=True):
        with pytest.raises(BadFileError, match=reason):
            read_image(path, form)
        with pytest.raises(ValueError, match=rf"{path.name}: .*{reason}"):
            survey_images([path])


def test_a_raster_of_more_pixels_than_a_picture_may_have_is_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.zeros((1, 1), np.uint16), sparse_ok=True)
    import rasterio
    from rasterio.transform import Affine

    shape = {"height": 12_000, "width": 12_000, "count": 1, "dtype": "uint16", "transform": Affine(1, 0, 0, 0, -1, 9)}
    with rasterio.open(path, "w", driver="GTiff", tiled=True, sparse_ok=True, **shape):
        pass
    with pytest.raises(ValueError, match=r"a\.tif: too large"):
        survey_images([path])
