"""Writes tiny scenes in the layouts in which satellite and aerial images are published, right ones and wrong ones."""

import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine

UTM = "EPSG:32631"
ORIGIN = (574_680.0, 5_622_440.0)
BANDS_10M = ("B02", "B03", "B04", "B08")


def place(pixel: float = 10.0, right: float = 0.0, down: float = 0.0) -> Affine:
    """North-up pixels of `pixel` metres whose corner lies so many metres from `ORIGIN`."""
    return Affine(pixel, 0, ORIGIN[0] + right, 0, -pixel, ORIGIN[1] - down)


def raster(path: Path, pixels: np.ndarray, transform: Affine | None = None, crs: str | None = UTM, **options) -> Path:
    """Writes `pixels` ([H, W] or [H, W, C]) as GeoTIFF or lossless JPEG 2000; `descriptions`, `tags` as in rasterio.

    `crs=None` leaves the georeference out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.atleast_3d(pixels)
    descriptions, tags, colours = (options.pop(name, None) for name in ("descriptions", "tags", "colorinterp"))
    if crs is not None:
        options |= {"crs": crs, "transform": transform or place()}
    if path.suffix == ".jp2":
        options |= {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    shape = {"height": pixels.shape[0], "width": pixels.shape[1], "count": pixels.shape[2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", dtype=pixels.dtype, **({"driver": "GTiff"} | shape | options)) as file:
            file.write(pixels.transpose(2, 0, 1))
            if descriptions:
                file.descriptions = descriptions
            if tags:
                file.update_tags(**tags)
            if colours:
                file.colorinterp = colours
    return path


def reflectances(seed: int, size: tuple[int, int] = (24, 30), bands: int = 4) -> np.ndarray:
    """uint16 [H, W, C], 1500..5000: nothing is nodata, also after the offset of 2022."""
    return np.random.default_rng(seed).integers(1500, 5000, (*size, bands), dtype=np.uint16)


def smooth(size: tuple[int, int], transform: Affine, bands: int = 4) -> np.ndarray:
    """float64 [H, W, C] values that are linear in the place on the ground, so that interpolation is exact."""
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    x = transform.a * columns + transform.c - ORIGIN[0]
    y = ORIGIN[1] - (transform.e * rows + transform.f)
    return np.stack([2000 + (band + 1) * (0.5 * x + 0.25 * y) for band in range(bands)], -1)


class SafeTree:
    """SAFE products under `root`, as ESA names and nests them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(
        self,
        day: str = "20190720",
        level: str = "L2A",
        baseline: str = "0213",
        pixels: np.ndarray | None = None,
        classes: np.ndarray | None = None,
        metadata: str | None = "",
        transform: Affine | None = None,
    ) -> Path:
        """A product with the 10 m bands of `pixels` (and the classification of `classes` at 20 m in L2A); its folder.

        `metadata` is put into the XML beside the baseline; None writes no XML.
        """
        stamp = f"{day}T105031"
        product = self.root / f"S2A_MSI{level}_{stamp}_N{baseline}_R051_T31UES_{day}T135643.SAFE"
        images = product / "GRANULE" / f"{level}_T31UES_A021282_{stamp}" / "IMG_DATA"
        pixels = reflectances(int(day)) if pixels is None else pixels
        folder, end = (images / "R10m", "_10m") if level == "L2A" else (images, "")
        for band, values in zip(BANDS_10M, np.moveaxis(pixels, -1, 0), strict=True):
            raster(folder / f"T31UES_{stamp}_{band}{end}.jp2", values, transform)
        self.coarse("B05", product, values[::2, ::2])
        if level == "L2A":
            classes = np.full((pixels.shape[0] // 2, pixels.shape[1] // 2), 4, np.uint8) if classes is None else classes
            raster(images / "R20m" / f"T31UES_{stamp}_SCL_20m.jp2", classes, transform or place(20))
        if metadata is not None:
            (product / f"MTD_MSI{level}.xml").write_text(
                f'<?xml version="1.0"?><n1:Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD"><General_Info>'
                f"<PRODUCT_START_TIME>{day[:4]}-{day[4:6]}-{day[6:]}T10:50:31.024Z</PRODUCT_START_TIME>"
                f"<PROCESSING_BASELINE>{baseline[:2]}.{baseline[2:]}</PROCESSING_BASELINE>{metadata}"
                "</General_Info></n1:Product>"
            )
        return product

    def coarse(self, band: str, product: Path, values: np.ndarray) -> Path:
        """Adds a band of 20 m."""
        images = next((product / "GRANULE").iterdir()) / "IMG_DATA"
        day = product.name.split("_")[2]
        folder, end = (images / "R20m", "_20m") if "L2A" in product.name else (images, "")
        return raster(folder / f"T31UES_{day}_{band}{end}.jp2", values, place(20))


def offsets(tag: str, value: int = -1000) -> str:
    """The metadata's list of offsets of all 13 bands."""
    quantification = "BOA_QUANTIFICATION_VALUE" if tag.startswith("BOA") else "QUANTIFICATION_VALUE"
    items = "".join(f'<{tag} band_id="{band}">{value}</{tag}>' for band in range(13))
    return f'<{quantification} unit="none">10000</{quantification}><{tag}_LIST>{items}</{tag}_LIST>'
