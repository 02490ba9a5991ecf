"""Pairs of images and masks by one rule that can be printed; what fits in two ways is refused, never guessed.

The rules, of which the first that applies is taken:

1. Fields: a pattern with `{stem}` or another field pairs files in which the fields that both patterns have are equal.
   `{stem}` of an image is its name without the ending where its pattern has no such field.
2. Folders: files are compared within folders that the wildcards of both patterns stand for by the same names.
3. In a folder, names without their ending are equal.
4. Or they are equal but for a beginning and an end that are the same in all names of a side: `21_training.tif` and
   `21_manual1.gif`. Names are cut only between words, numbers and signs, so that `img_1` is no part of `img_10`.
5. Or they are equal but for words that all names of a side have, and none is left over: `circle_image_0.png` and
   `circle_mask_0.png`.
6. Or each folder holds one image and one mask.

Where an image may have several masks, one an object, they are those of its folder, or those whose names begin with its
own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from miseg.data.folders.names.affixes import Affixes, infer_affixes, infer_shared_words, starts_name
from miseg.data.folders.names.patterns import FileSet, MatchedFile
from miseg.data.folders.names.splits import split_name

_APART = ("split", "group")
"""Fields that say where a file belongs, not which one it is."""


@dataclass(frozen=True)
class Side:
    """The files that are paired with images.

    Attributes:
        what: "mask", or another word for messages.
        option: what their patterns were given with, such as "--masks".
        several: whether an image may have several, one an object.
    """

    what: str
    option: str
    several: bool = False


@dataclass(frozen=True)
class Pairing:
    """Images with their masks.

    Attributes:
        rules: sentences on how names were compared.
        partners: by image, its masks in order of names; none for an image without.
        left: masks without image.
    """

    rules: tuple[str, ...]
    partners: dict[MatchedFile, tuple[MatchedFile, ...]]
    left: tuple[MatchedFile, ...]


def pair_files(images: Sequence[FileSet], others: Sequence[FileSet], side: Side) -> Pairing:
    """Pairing `images` with `others`.

    As many patterns of the one as of the other are paired pattern by pattern, in order.

    Raises:
        ValueError: not one pair; an image that two masks fit, or a mask that two images do; names that two rules pair
            otherwise; a field that the images' pattern lacks.
    """
    if len(images) == len(others):
        parts = [_pair_sets([left], [right], side) for left, right in zip(images, others, strict=True)]
    else:
        parts = [_pair_sets(images, others, side)]
    partners = {image: matches for part in parts for image, matches in part.partners.items()}
    if not any(partners.values()):
        raise ValueError(_no_pair(images, others, side))
    rules = tuple(dict.fromkeys(rule for part in parts for rule in part.rules))
    return Pairing(rules, partners, tuple(other for part in parts for other in part.left))


def _pair_sets(images: Sequence[FileSet], others: Sequence[FileSet], side: Side) -> Pairing:
    fields = {name for files in others for name in files.fields if name not in _APART}
    by_image = {name for files in images for name in files.fields if name not in _APART}
    files = [file for files in images for file in files.files]
    rest = [file for files in others for file in files.files]
    if fields or "stem" in by_image:
        # Where masks have no field, {stem} of an image is compared to a mask's whole name.
        both = [name for name in _APART if all(name in pattern.fields for pattern in (*images, *others))]
        named = (*sorted(fields or {"stem"}), *both)
        for pattern in images:
            if missing := [name for name in named if name != "stem" and name not in pattern.fields]:
                raise ValueError(
                    f"{side.option} {others[0].pattern}: has {{{missing[0]}}}, which --images {pattern.pattern} lacks: "
                    "write it into both"
                )
        rule = f"{side.what} of an image: the same {' and '.join(f'{{{name}}}' for name in named)}"
        return _by_key(files, rest, lambda file: _field_key(file, named), side, rule)
    shared = _shared_places(files, rest)
    places: dict[object, tuple[list[MatchedFile], list[MatchedFile]]] = {}
    for number, group in enumerate((files, rest)):
        for file in group:
            places.setdefault(_place(file) if shared else None, ([], []))[number].append(file)
    single = all(len(some) <= 1 for some, _ in places.values())
    # Names of objects may hold any number, and thereby resemble the image's.
    parts = [] if single and side.several else [_in_place(some, masks, side) for some, masks in places.values()]
    if single and not any(any(part.partners.values()) for part in parts):
        parts = [_one_each(some, masks, side) for some, masks in places.values()]
    return Pairing(
        tuple(dict.fromkeys(rule for part in parts for rule in part.rules)),
        {image: matches for part in parts for image, matches in part.partners.items()},
        tuple(other for part in parts for other in part.left),
    )


def _place(file: MatchedFile) -> tuple[str, ...]:
    """Folders that wildcards stand for on the way to the file; training and train are the same."""
    return tuple(split_name(folder) or folder for folder in file.wild)


def _shared_places(images: Iterable[MatchedFile], others: Iterable[MatchedFile]) -> bool:
    """Whether folders of the wildcards tell which files belong together: some folder of images has masks too."""
    return bool({_place(file) for file in images} & {_place(file) for file in others})


def _field_key(file: MatchedFile, named: tuple[str, ...]) -> tuple[str | None, ...]:
    values = {"stem": file.stem} | file.fields
    if "split" in values:
        values["split"] = split_name(values["split"]) or values["split"]
    return tuple(values.get(name) for name in named)


def _by_key(
    images: list[MatchedFile],
    others: list[MatchedFile],
    key: Callable[[MatchedFile], object],
    side: Side,
    rule: str,
) -> Pairing:
    ours: dict[object, MatchedFile] = {}
    for image in images:
        if (other := ours.setdefault(key(image), image)) is not image:
            raise ValueError(
                f"{other.path} and {image.path} would both be the image of {_key_text(key(image))} by the rule "
                f"({rule}): write into both patterns what tells them apart, such as {{split}} or a folder"
            )
    partners: dict[MatchedFile, list[MatchedFile]] = {image: [] for image in images}
    left = [other for other in others if key(other) not in ours]
    for other in others:
        if key(other) in ours:
            partners[ours[key(other)]].append(other)
    return _checked(partners, left, side, rule)


def _checked(partners: dict[MatchedFile, list[MatchedFile]], left: list[MatchedFile], side: Side, rule: str) -> Pairing:
    for image, matches in partners.items():
        if len(matches) > 1 and not side.several:
            raise ValueError(
                f"{image.path} has {len(matches)} {side.what}s by the rule ({rule}), such as "
                f"{matches[0].path} and {matches[1].path}: name one of them by its pattern"
                + (", or say --instances where each file is an object" if side.what == "mask" else "")
            )
    return Pairing((rule,), {image: tuple(matches) for image, matches in partners.items()}, tuple(left))


def _key_text(key: object) -> str:
    return ", ".join(str(part) for part in key) if isinstance(key, tuple) else str(key)


def _in_place(images: list[MatchedFile], others: list[MatchedFile], side: Side) -> Pairing:
    """The pairs of one folder: by equal names, else by names that are equal but for what all names of a side share."""
    if not images or not others:
        return Pairing((), dict.fromkeys(images, ()), tuple(others))
    if {file.stem for file in images} & {file.stem for file in others}:
        rule = f"{side.what} of an image: the same name but for the ending"
        return _by_key(images, others, lambda file: file.stem, side, rule)
    if side.several and (pairs := _by_beginnings(images, others, side)) is not None:
        return pairs
    # Of one image beside several masks, any may resemble it by chance.
    enough = len(images) > 1 or len(others) == 1
    names = [file.stem for file in images], [file.stem for file in others]
    affixes = infer_affixes(*names) if enough else None
    complete = affixes is not None and len(affixes) == 1 and _is_complete(affixes[0], *names)
    if not complete and (words := infer_shared_words(*names)) is not None:
        theirs = {words.other_key(file.stem): file for file in others}
        listed = [" ".join(sorted(some)) for some in (words.image, words.other)]
        rule = f"{side.what} of an image: the same words and numbers but for '{listed[0]}' ↔ '{listed[1]}'"
        return Pairing((rule,), {image: (theirs[words.image_key(image.stem)],) for image in images}, ())
    if affixes is None:
        return Pairing((), dict.fromkeys(images, ()), tuple(others))
    if len(affixes) > 1:
        raise ValueError(_two_ways(affixes, images, others, side))
    (affix,) = affixes
    return _by_affixes(affix, images, others, side)


def _by_beginnings(images: list[MatchedFile], others: list[MatchedFile], side: Side) -> Pairing | None:
    """Each mask is the image's whose name it begins with, the longest of such; None where none does."""
    partners: dict[MatchedFile, list[MatchedFile]] = {image: [] for image in images}
    by_stem = {image.stem: image for image in images}
    left = []
    for other in others:
        lengths = range(len(other.stem), 0, -1)
        stems = (other.stem[:length] for length in lengths if other.stem[:length] in by_stem)
        stem = next((stem for stem in stems if starts_name(stem, other.stem)), None)
        if stem is None:
            left.append(other)
        else:
            partners[by_stem[stem]].append(other)
    if not any(partners.values()) or len(by_stem) < len(images):
        return None
    rule = f"{side.what}s of an image: those whose names begin with its own"
    return Pairing((rule,), {image: tuple(some) for image, some in partners.items()}, tuple(left))


def _is_complete(affixes: Affixes, images: Sequence[str], others: Sequence[str]) -> bool:
    ours, theirs = {affixes.image_key(name) for name in images}, {affixes.other_key(name) for name in others}
    return ours == theirs and None not in ours and len(ours) == len(images) == len(others)


def _by_affixes(affixes: Affixes, images: list[MatchedFile], others: list[MatchedFile], side: Side) -> Pairing:
    rule = f"{side.what} of an image: {affixes.image_pattern} ↔ {affixes.other_pattern}"
    ours = {affixes.image_key(file.stem): file for file in images}
    theirs = {affixes.other_key(file.stem): file for file in others}
    # A key is None where a name does not have the beginning and the end.
    alone = [file for file in images if affixes.image_key(file.stem) not in theirs or not affixes.image_key(file.stem)]
    left = [file for file in others if affixes.other_key(file.stem) not in ours or not affixes.other_key(file.stem)]
    other_ways = infer_affixes([file.stem for file in images], [file.stem for file in left]) if left else None
    if other_ways is not None:
        raise ValueError(_two_ways((affixes, other_ways[0]), images, others, side))
    if alone and left:
        # Frames counted from 0 and masks from 1 fit by such a rule all but for one of each, and all of them wrongly.
        raise ValueError(
            f"{alone[0].path} and {left[0].path} are left over by the rule that fits the others ({rule}): pair them by "
            f"a list (--lists), or if the rule is right, say it: --images '{affixes.image.as_stem}' {side.option} "
            f"'{affixes.other.as_stem}'"
        )
    partners = {image: [] if image in alone else [theirs[affixes.image_key(image.stem)]] for image in images}
    return Pairing((rule,), {image: tuple(matches) for image, matches in partners.items()}, tuple(left))


def _one_each(images: list[MatchedFile], others: list[MatchedFile], side: Side) -> Pairing:
    rule = f"{side.what} of an image: {'those' if side.several else 'the one'} of its folder"
    if not images:
        return Pairing((), {}, tuple(others))
    return _checked({images[0]: list(others)}, [], side, rule)


def _two_ways(ways: Sequence[Affixes], images: list[MatchedFile], others: list[MatchedFile], side: Side) -> str:
    first, second = ways[:2]
    keys = [{way.other_key(other.stem): other for other in others} for way in (first, second)]
    candidates: dict[MatchedFile, list[MatchedFile | None]] = {}
    for image in images:
        own = (first.image_key(image.stem), second.image_key(image.stem))
        candidates[image] = [
            by_key.get(key) if key is not None else None for by_key, key in zip(keys, own, strict=True)
        ]
    # An image that both ways pair shows it best.
    image = max(candidates, key=lambda image: len({other for other in candidates[image] if other is not None}))
    names = " or ".join(str(other.path) for other in candidates[image] if other is not None)
    return (
        f"{image.path}: its {side.what} may be {names}; names fit in two ways ({first.image_pattern} ↔ "
        f"{first.other_pattern}, and {second.image_pattern} ↔ {second.other_pattern}): write more of the name into "
        f"{side.option}, such as '{second.other_pattern}.*'"
    )


def _no_pair(images: Sequence[FileSet], others: Sequence[FileSet], side: Side) -> str:
    first = next((file for files in images for file in files.files), None)
    other = next((file for files in others for file in files.files), None)
    shown = f"{first.path} and {other.path}" if first and other else "nothing"
    return (
        f"no {side.what} fits an image by name ({shown}): write what they have in common as {{stem}} into both "
        f"patterns, such as --images 'images/{{stem}}_x.png' {side.option} 'masks/{{stem}}_y.png', or pair them by a "
        "list (--lists)"
    )
