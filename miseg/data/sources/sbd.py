"""VOC 2012 with its training set augmented by the Semantic Boundaries Dataset: the 10,582 images called trainaug.

SBD (Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011) annotates 11,355 images of VOC 2011. Its
own train and val are not VOC's: it holds many of VOC 2012's validation images, which are left out here.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from miseg.data.checks import BadFileError, check_labels, encode_png, read_bytes
from miseg.data.listing import is_picture
from miseg.data.samples import Rejection, Sample
from miseg.data.sources.voc import SPLITS, Voc, pair, read_ids, voc_pair

_FOLDERS = ("benchmark_RELEASE/dataset", "dataset", "sbd/benchmark_RELEASE/dataset", "sbd/dataset", "sbd")
_ORIGIN = (
    "unpack benchmark.tgz from home.bharathh.info/pubs/codes/SBD/download.html so that benchmark_RELEASE/ (or a folder "
    "sbd/ with img, cls, train.txt and val.txt) lies in VOC2012/, beside it or beside VOCdevkit/"
)


class VocAug(Voc):
    """Reader of VOC 2012 whose split train is trainaug: SBD's train and val and VOC's train, without VOC's val.

    SBD is looked for in VOC2012/, beside it and beside VOCdevkit/, as `benchmark_RELEASE/dataset`, `dataset` or `sbd`,
    with `cls/<id>.mat`, `img/<id>.jpg`, train.txt and val.txt. In its place, or for masks that it lacks, serves
    `VOC2012/SegmentationClassAug/<id>.png`, label numbers in the form that VOC's own masks have; without SBD's lists
    its files are the list. VOC's own mask wins for images of VOC's train, and VOC's copy of an image over SBD's.
    """

    name = "voc-aug"

    def available(self) -> tuple[str, ...]:
        """train and val.

        Raises:
            ValueError: the root, one of VOC's lists, or SBD is missing.
        """
        self._lists_of_ids()
        return SPLITS

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """VOC's train in its order, then the images that SBD adds in SBD's; or VOC's val.

        Raises:
            ValueError: neither train nor val; the root, a list or a folder is missing; a list is empty or not UTF-8
                text; VOC's val has a line that is no id, so that its image could slip into train.
        """
        if split == "train":
            return self._augmented()
        if split == "val":
            return super().samples(split)
        raise ValueError(f"split {split!r}: voc-aug has {' and '.join(SPLITS)}; trainval is a split of voc")

    def _augmented(self) -> Iterator[Sample | Rejection]:
        folder, lists = self._pictures(), self._lists_of_ids()
        sbd = find_sbd(folder)
        seen = set(lists.pop("VOC val"))
        for origin, listed in lists.items():
            for entry in listed:
                if isinstance(entry, Rejection):
                    yield entry
                elif entry not in seen:
                    yield voc_pair(folder, entry, "train") if origin == "VOC train" else self._added(entry, folder, sbd)
            # Not before: an id that comes twice in one list stays twice, and packing reports it.
            seen.update(listed)

    def _lists_of_ids(self) -> dict[str, list[str | Rejection]]:
        lists = {f"VOC {split}": self._ids(split) for split in SPLITS}
        for entry in lists["VOC val"]:
            if isinstance(entry, Rejection):
                raise ValueError(f"{entry.file}: {entry.reason}; {self.name} must know what to keep out of training")
        folder = self._folder()
        pictures, sbd = folder / "SegmentationClassAug", find_sbd(folder)
        if sbd is not None:
            return lists | {f"SBD {split}": _sbd_ids(sbd, split) for split in SPLITS}
        if pictures.is_dir():
            return lists | {pictures.name: [*sorted(path.stem for path in pictures.iterdir() if is_picture(path))]}
        raise ValueError(f"{self.name}: neither SBD nor {pictures}/ is there: {_ORIGIN}")

    def _added(self, name: str, folder: Path, sbd: Path | None) -> Sample | Rejection:
        images, masks = [folder / "JPEGImages" / f"{name}.jpg"], [folder / "SegmentationClassAug" / f"{name}.png"]
        if sbd is not None:
            images, masks = [*images, sbd / "img" / f"{name}.jpg"], [sbd / "cls" / f"{name}.mat", *masks]
        image, mask = (next((path for path in paths if path.is_file()), paths[0]) for paths in (images, masks))
        sample = pair(name, "train", image, mask)
        if isinstance(sample, Rejection) or mask.suffix != ".mat":
            return sample
        try:
            labels = read_class_map(read_bytes(mask))
            # Packing sees bytes, not the .mat file: checked here, a bad label is reported under the file's name.
            check_labels(labels, self.info)
        except BadFileError as error:
            return Rejection(str(mask), str(error))
        return replace(sample, mask=encode_png(labels))


def find_sbd(voc: Path) -> Path | None:
    """SBD's folder `dataset`, which holds `cls/`, in VOC2012's folder `voc`, beside it or beside VOCdevkit; or None."""
    around = [voc, voc.absolute().parent]
    if around[-1].name == "VOCdevkit":
        around.append(around[-1].parent)
    folders = (base / name for base in around for name in _FOLDERS)
    return next((folder for folder in folders if (folder / "cls").is_dir()), None)


def read_class_map(data: bytes) -> np.ndarray:
    """Labels, uint8 [H, W], of a file of SBD's `cls/`: the field Segmentation of its MATLAB structure GTcls.

    Raises:
        BadFileError: no MATLAB file, or one without such a class map.
    """
    # It takes half a second to import, which no other data set should wait for.
    from scipy.io import loadmat

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            variables = loadmat(io.BytesIO(data))
    except NotImplementedError:
        raise BadFileError("MATLAB 7.3 (HDF5) file: save it with -v7, as published") from None
    except Exception as error:
        # SciPy names no exceptions for damaged bytes, and raises whatever its parser runs into.
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BadFileError(f"truncated or no MATLAB file ({cause}): copy it again") from None
    if "GTcls" not in variables:
        names = ", ".join(name for name in variables if not name.startswith("__")) or "nothing"
        raise BadFileError(f"holds {names}, not GTcls: copy the file of this name from SBD's cls/, not inst/")
    structure = variables["GTcls"]
    if structure.dtype.names is None or "Segmentation" not in structure.dtype.names or structure.size != 1:
        fields = ", ".join(structure.dtype.names or ()) or "no field"
        raise BadFileError(f"GTcls has {fields}, not Segmentation: copy the file from SBD's cls/ again")
    labels = structure["Segmentation"].item()
    if labels.ndim != 2 or labels.dtype != np.uint8 or not labels.size:
        raise BadFileError(f"GTcls.Segmentation is {labels.dtype} {list(labels.shape)}: save it as uint8 [H, W]")
    return np.ascontiguousarray(labels)


def _sbd_ids(sbd: Path, split: str) -> list[str | Rejection]:
    path = sbd / f"{split}.txt"
    if not path.is_file():
        raise ValueError(f"{path} is missing: trainaug needs both of SBD's lists; {_ORIGIN}")
    return read_ids(path)
