"""Options of own images and masks, and the description that they give."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from miseg.commands.prepare.packing import PackingOptions

if TYPE_CHECKING:
    from miseg.data.folders.description import Description

OF_OWN = (
    *("images", "masks", "valid", "coco", "parquet", "columns", "lists", "group", "split", "split_blocks"),
    *("split_folders", "without_mask", "classes", "colours", "ids", "foreground", "threshold", "ignore"),
    *("instances", "description"),
)
"""Options of own images."""


@dataclass(frozen=True)
class ImageOptions(PackingOptions):
    """Options of own images and masks."""

    images: tuple[str, ...] = ()
    """Own images: a folder, files, or patterns in quotes with * ** ? [ab] and the fields {split} (train, val or test),
    {stem} (what an image and its mask have in common), {group} (what must stay in one split), or any other {name} that
    both patterns have. As many patterns as of masks belong together in their order."""
    masks: tuple[str, ...] = ()
    """Their masks likewise; none: images without labels. How names are paired is printed."""
    valid: tuple[str, ...] = ()
    """Masks of the pixels that count, those that are not 0, likewise; the others are ignored."""
    coco: tuple[str, ...] = ()
    """COCO files of outlines, such as 'annotations/instances_{split}.json'; then --images is the folder that their file
    names start from, by default their own, or one each."""
    parquet: tuple[str, ...] = ()
    """Parquet files with the bytes of image and mask a row, as Hugging Face has them, such as 'data/*.parquet'."""
    columns: tuple[str, ...] = ()
    """Their columns of the image, and of the mask, where other names than the usual ones are used."""
    lists: tuple[str, ...] = ()
    """Lists of the images to take, a file a split ('lists/{split}.txt'): a name or path a line, or an image and its
    mask; or a CSV table with the columns image, mask, valid, split, group."""
    group: str | None = None
    """Regular expression whose first group, in an image's name, must stay in one split: '([a-z]+)_[0-9]+' for frames
    of clips."""
    split: tuple[float, ...] = ()
    """Shares of train, val and test to draw, by default 0.7 0.15 0.15 where nothing names splits. Where val alone is
    missing, the shares of train and val, by default 0.85 0.15."""
    split_blocks: bool = False
    """Cut the splits as runs of names, train first, in place of a draw by lot: for slices of a stack or frames of a
    video, whose neighbours look alike. Images of a --group stay together."""
    split_folders: bool = True
    """Whether own images' folders named train, val and test (or training, valid, ...) are the splits."""
    without_mask: Literal["reject", "leave-out", "unlabelled", "background"] = "reject"
    """Own images without a mask: rejected, left out, packed as a split named unlabelled, or background all over where
    masks are of one class: they show no object."""
    classes: tuple[str, ...] = ()
    """Names of own classes, in the order of what masks hold; or a text file (.txt) of them, one a line."""
    colours: Path | None = None
    """CSV file of own classes by colour, for masks that are RGB pictures: name,r,g,b."""
    ids: Path | None = None
    """CSV file of own classes by id: id,name; several ids of one name are one class."""
    foreground: tuple[int, ...] = ()
    """Ids of the one class beside the background, such as 255."""
    threshold: float | None = None
    """Grey level from which a pixel is foreground, for masks that compression or smoothing blurred."""
    ignore: tuple[str, ...] = ()
    """Ids, or names of classes, whose pixels count nowhere."""
    instances: bool = False
    """Whether each id, colour or file of an image's mask is an object of one class beside the background."""
    description: Path | None = None
    """Description of own images and masks to pack again: the dataset.yaml in a packed folder, or one you wrote."""


def describe(settings: ImageOptions) -> tuple[Description, Path]:
    """The description of own images that `settings` give, and the folder that its relative paths start from.

    Raises:
        ValueError: no name; or as `read_description`.
    """
    # Not at the top: --help must not wait for them.
    from miseg.data.folders.class_tables import read_names
    from miseg.data.folders.description import Description, read_description
    from miseg.data.folders.encoding import MaskOptions
    from miseg.data.folders.names.layout import Layout

    if settings.description is not None:
        path = settings.description.expanduser().absolute()
        description = read_description(path)
        name = Path(settings.out).name if settings.out is not None else description.name
        return replace(description, name=name), path.parent
    if settings.out is None:
        raise ValueError("--out: give the data set a name, such as --out pets")
    options = MaskOptions(
        classes=read_names(settings.classes),
        colours=settings.colours,
        ids=settings.ids,
        foreground=settings.foreground,
        threshold=settings.threshold,
        ignore=tuple(int(value) if value.lstrip("-").isdigit() else value for value in settings.ignore),
        instances=settings.instances,
    )
    names = [field.name for field in fields(Layout) if field.name != "several_masks"]
    layout = Layout(**{name: getattr(settings, name) for name in names}, several_masks=settings.instances)
    draw = {name: getattr(settings, name) for name in ("split", "seed", "split_blocks")}
    return Description(Path(settings.out).name, layout, options, **draw), Path.cwd()
