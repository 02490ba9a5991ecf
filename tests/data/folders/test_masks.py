"""Every encoding of masks comes back as the labels that were drawn."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miseg.data.checks import BadFileError
from miseg.data.folders.class_tables import read_colours, read_ids
from miseg.data.folders.encoding import MaskEncoding, MaskOptions
from miseg.data.folders.mask_files import count_ids, count_values, read_mask
from miseg.data.folders.mask_survey import survey_masks
from tests.support.rasters import write_raster

COLOURS = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))


def labels(seed: int, classes: int, size: tuple[int, int] = (13, 17)) -> np.ndarray:
    """Labels in which each class occurs, uint8 [H, W]."""
    drawn = np.random.default_rng(seed).integers(0, classes, size).astype(np.uint8)
    drawn.flat[:classes] = range(classes)
    return drawn


def palette_png(indices: np.ndarray, colours: tuple[tuple[int, int, int], ...], path: Path) -> Path:
    picture = Image.fromarray(indices, "P")
    picture.putpalette([number for colour in colours for number in colour])
    picture.save(path)
    return path


def save(values: np.ndarray, path: Path) -> Path:
    Image.fromarray(values).save(path)
    return path


def encoded(values: np.ndarray, form: str, folder: Path) -> Path:
    """Ids in a file of one form."""
    if form == "png":
        return save(values.astype(np.uint8), folder / "m.png")
    if form == "png16":
        return save(values.astype(np.uint16), folder / "m.png")
    if form == "rgb":
        return save(np.repeat(values.astype(np.uint8)[..., None], 3, 2), folder / "m.png")
    if form == "rgba":
        grey = np.repeat(values.astype(np.uint8)[..., None], 4, 2)
        grey[..., 3] = 255
        return save(grey, folder / "m.png")
    if form == "palette":
        colours = tuple((number * 7 % 256, number, 255 - number) for number in range(256))
        return palette_png(values.astype(np.uint8), colours, folder / "m.png")
    if form == "gif":
        return save(values.astype(np.uint8), folder / "m.gif")
    if form == "bmp":
        return save(values.astype(np.uint8), folder / "m.bmp")
    return write_raster(folder / "m.tif", values.astype(form))


FORMS = ["png", "png16", "rgb", "rgba", "palette", "gif", "bmp", "uint8", "int16", "uint16", "int32", "uint32"]
FORMS += ["float32", "float64"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ids", [(0, 1, 2), (1, 2, 3, 4), (0, 3, 7, 200), (0, 1, 2, 255)])
def test_ids_in_any_form_with_and_without_gaps(form: str, ids: tuple[int, ...], tmp_path: Path) -> None:
    truth = labels(sum(ids), len(ids))
    path = encoded(np.array(ids)[truth], form, tmp_path)
    encoding = survey_masks([path], MaskOptions())
    known = [value for value in ids if value != 255]
    assert encoding.classes == tuple(f"class {value}" for value in known)
    assert (255 in ids) == any("255 is taken as unlabelled" in note for note in encoding.notes)
    assert (known != list(range(len(known)))) == any("became the labels" in note for note in encoding.notes)
    truth[truth == (ids.index(255) if 255 in ids else 255)] = 255
    again = MaskEncoding.from_dict(encoding.to_dict())
    for reader in (encoding, again):
        assert reader.labels(path).dtype == np.uint8 and np.array_equal(reader.labels(path), truth)
    assert np.array_equal(encoding.labels(path.read_bytes()), truth)


def test_ids_beyond_8_bits_are_not_scaled(tmp_path: Path) -> None:
    truth = labels(0, 3)
    path = save(np.array([7, 3000, 65535], np.uint16)[truth], tmp_path / "m.png")
    encoding = survey_masks([path], MaskOptions(classes=("a", "b", "c")))
    assert encoding.values == ((7, 0), (3000, 1), (65535, 2))
    assert encoding.notes == ("Ids in the order of --classes: 7 a, 3000 b, 65535 c.",)
    assert np.array_equal(encoding.labels(path), truth)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_is_not_scaled(bits: int, tmp_path: Path) -> None:
    truth = labels(bits, 2**bits)
    picture = Image.fromarray(truth, "P")
    picture.putpalette([0] * 768)
    picture.save(tmp_path / "p.png", bits=bits)
    # The palette's chunks away, and what is left is grey of so many bits.
    data = bytearray((tmp_path / "p.png").read_bytes())
    grey = _without_palette(bytes(data))
    assert grey[24] == bits and np.array_equal(read_mask(grey).values, truth)
    if bits == 1:
        one = io.BytesIO()
        Image.fromarray(truth.astype(bool)).save(one, "TIFF", compression="group4")
        assert np.array_equal(read_mask(one.getvalue()).values, truth)


def _without_palette(data: bytes) -> bytes:
    import struct
    import zlib

    result, place = data[:8], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += length + 12
        if kind in (b"PLTE", b"tRNS"):
            continue
        if kind == b"IHDR":
            body = body[:9] + b"\x00" + body[10:]
        result += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return result


@pytest.mark.parametrize("values", [(0, 255), (1, 255), (0, 1, 255), (0, 128, 255), (0, 85, 170, 255)])
def test_255_among_few_values_is_asked_about(values: tuple[int, ...], tmp_path: Path) -> None:
    path = save(np.array(values, np.uint8)[labels(0, len(values))], tmp_path / "m.png")
    with pytest.raises(ValueError, match=r"m\.png: masks hold .*255 alone.*--foreground 255 or --ignore 255"):
        survey_masks([path], MaskOptions())


def test_255_is_the_foreground_or_ignored_as_is_said(tmp_path: Path) -> None:
    truth = labels(1, 2)
    path = save(truth * 255, tmp_path / "m.png")
    encoding = survey_masks([path], MaskOptions(classes=("vessel",), foreground=(255,)))
    assert encoding.classes == ("background", "vessel") and np.array_equal(encoding.labels(path), truth)
    three = save(np.array([0, 1, 255], np.uint8)[labels(2, 3)], tmp_path / "three.png")
    ignored = survey_masks([three], MaskOptions(ignore=(255,)))
    assert set(np.unique(ignored.labels(three))) == {0, 1, 255} and ignored.classes == ("background", "foreground")
    with pytest.raises(ValueError, match=r"--foreground 7: no mask holds it; they hold 0, 255"):
        survey_masks([path], MaskOptions(foreground=(7,)))
    with pytest.raises(ValueError, match="255 is named by both --foreground and --ignore"):
        survey_masks([path], MaskOptions(foreground=(255,), ignore=(255,)))


def test_masks_of_0_and_1_among_masks_of_0_and_255(tmp_path: Path) -> None:
    truth = labels(2, 2)
    ones = [save(truth, tmp_path / f"one {n}.png") for n in range(2)]
    paths = [*ones, *[save(truth * 255, tmp_path / f"other {n}.png") for n in range(3)]]
    with pytest.raises(ValueError, match=r"2 masks hold 0 and 1.*one 0.*3 0 and 255.*other 0.*--foreground 1 255"):
        survey_masks(paths, MaskOptions())
    encoding = survey_masks(paths, MaskOptions(foreground=(1, 255)))
    assert all(np.array_equal(encoding.labels(path), truth) for path in paths)
    (_, told) = survey_masks(paths, MaskOptions(foreground=(255,))).notes
    assert told.startswith("look at this: 2 of 5 masks, such as") and "--foreground 1 255" in told
    # In a trimap, the other value stands beside the foreground.
    trimap = save(np.array([0, 1, 255], np.uint8)[labels(3, 3)], tmp_path / "trimap.png")
    assert len(survey_masks([trimap, ones[0]], MaskOptions(foreground=(255,))).notes) == 1


@pytest.mark.parametrize("order", [(0, 255), (255, 0)])
def test_a_palette_of_greys_is_its_grey_levels(order: tuple[int, int], tmp_path: Path) -> None:
    truth = labels(7, 2)
    indices = truth if order == (0, 255) else 1 - truth
    path = palette_png(indices, tuple((level,) * 3 for level in order), tmp_path / "m.png")
    with pytest.raises(ValueError, match="--foreground 255 or --ignore 255"):
        survey_masks([path], MaskOptions())
    encoding = survey_masks([path], MaskOptions(foreground=(255,)))
    assert np.array_equal(encoding.labels(path), truth)
    assert any("read as its grey levels" in note for note in encoding.notes)


def test_a_mask_of_which_pillow_reduced_the_colours(tmp_path: Path) -> None:
    truth = labels(8, 2)
    path = tmp_path / "m.png"
    Image.fromarray(np.repeat(truth[..., None] * 255, 3, 2)).quantize(2).save(path)
    assert np.array_equal(survey_masks([path], MaskOptions(foreground=(255,))).labels(path), truth)


def test_greys_of_a_coloured_palette_and_equal_greys_stay_indices(tmp_path: Path) -> None:
    # VOC's palette has a grey at 7.
    truth = labels(9, 2) * 7
    voc = (*COLOURS, (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128))
    path = palette_png(truth, voc, tmp_path / "m.png")
    assert survey_masks([path], MaskOptions()).values == ((0, 0), (7, 1))
    black = palette_png(truth, ((0, 0, 0),) * 8, tmp_path / "black.png")
    assert survey_masks([black], MaskOptions()).values == ((0, 0), (7, 1))
    grey = palette_png(labels(9, 2), ((255,) * 3, (0,) * 3), tmp_path / "grey.png")
    with pytest.raises(ValueError, match=r"grey\.png has a palette of greys and .*m\.png one of colours"):
        survey_masks([path, grey], MaskOptions(foreground=(255,)))


def test_equal_steps_up_to_255_are_grey_levels_though_they_are_rounded(tmp_path: Path) -> None:
    levels = np.round(np.linspace(0, 255, 11)).astype(np.uint8)
    with pytest.raises(ValueError, match="--foreground 255 or --ignore 255"):
        survey_masks([save(levels[labels(0, 11)], tmp_path / "m.png")], MaskOptions())


@pytest.mark.parametrize("form", ["uint8", "uint16", "float32"])
def test_what_a_file_names_as_no_data_is_asked_about(form: str, tmp_path: Path) -> None:
    truth = labels(6, 3)
    path = write_raster(tmp_path / "m.tif", truth.astype(form), nodata=0)
    with pytest.raises(ValueError, match=r'm\.tif names 0 as "no data": say --ignore 0 .*--classes'):
        survey_masks([path], MaskOptions())
    ignored = survey_masks([path], MaskOptions(ignore=(0,)))
    assert np.array_equal(ignored.labels(path), np.array([255, 0, 1], np.uint8)[truth])
    for options in (MaskOptions(classes=("a", "b", "c")), MaskOptions(foreground=(1, 2))):
        encoding = survey_masks([path], options)
        assert set(np.unique(encoding.labels(path))) == set(range(len(encoding.classes)))
        assert any('names 0 as "no data"' in note for note in encoding.notes)
    # One that no pixel holds says nothing.
    survey_masks([write_raster(tmp_path / "n.tif", truth.astype(form), nodata=9)], MaskOptions())


def test_levels_that_count_nowhere_beside_a_threshold(tmp_path: Path) -> None:
    levels = np.array([0, 64, 200], np.uint8)[labels(3, 3)]
    path = save(levels, tmp_path / "m.png")
    encoding = survey_masks([path], MaskOptions(threshold=128, ignore=(64, 7)))
    expected = np.where(levels == 64, 255, levels >= 128)
    for reader in (encoding, MaskEncoding.from_dict(encoding.to_dict())):
        assert np.array_equal(reader.labels(path), expected)
    assert encoding.notes == ("No mask holds 7, which --ignore names.",)
    with pytest.raises(ValueError, match="no mask reaches --threshold 128: the highest grey level is 64"):
        survey_masks([path], MaskOptions(threshold=128, ignore=(200,)))


def test_levels_that_are_no_number_count_nowhere(tmp_path: Path) -> None:
    truth = labels(4, 3)
    path = write_raster(tmp_path / "m.tif", np.array([0.1, 0.9, np.nan], np.float32)[truth])
    whole = write_raster(tmp_path / "n.tif", np.array([0.1, 0.9, 0.9], np.float32)[truth])
    encoding = survey_masks([whole, path], MaskOptions(threshold=0.5))
    assert np.array_equal(encoding.labels(path), np.array([0, 1, 255], np.uint8)[truth])
    (note,) = encoding.notes
    assert note.startswith("1 mask holds pixels that are no number") and "m.tif" in note
    nothing = write_raster(tmp_path / "nothing.tif", np.full((4, 4), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"no mask holds a grey level that counts.*nothing\.tif.*NaN"):
        survey_masks([nothing], MaskOptions(threshold=0.5))


def test_an_ignored_id_of_objects(tmp_path: Path) -> None:
    numbers = np.array([0, 1, 7], np.uint8)[labels(5, 3)]
    grey = save(np.repeat(numbers[..., None], 3, 2), tmp_path / "grey.png")
    encoding = survey_masks([grey], MaskOptions(instances=True, ignore=(7,)))
    assert np.array_equal(encoding.labels(grey), np.where(numbers == 7, 255, numbers > 0))
    coloured = save(np.stack([numbers, numbers * 2, numbers], -1), tmp_path / "coloured.png")
    with pytest.raises(ValueError, match=r"coloured\.png: mask of RGB colours, which have no id that --ignore 7"):
        survey_masks([coloured], MaskOptions(instances=True, ignore=(7,)))


def test_a_trimap_s_foreground_and_border(tmp_path: Path) -> None:
    truth = labels(3, 3)
    path = save(truth + 1, tmp_path / "m.png")
    encoding = survey_masks([path], MaskOptions(foreground=(1,), ignore=(3,)))
    assert np.array_equal(encoding.labels(path), np.array([1, 0, 255], np.uint8)[truth])


def test_a_palette_s_colours_are_the_classes_and_it_is_ids(tmp_path: Path) -> None:
    truth = labels(4, 4)
    path = palette_png(truth, COLOURS, tmp_path / "m.png")
    encoding = survey_masks([path], MaskOptions(classes=("sky", "roof", "tree", "road")))
    assert encoding.kind == "ids" and encoding.colours == COLOURS and np.array_equal(encoding.labels(path), truth)


def test_palettes_that_differ_are_no_ids_and_are_read_by_colour(tmp_path: Path) -> None:
    truth = labels(5, 4)
    first = palette_png(truth, COLOURS, tmp_path / "a.png")
    second = palette_png((3 - truth).astype(np.uint8), COLOURS[::-1], tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png: index 0 of the palette is 128,128,0 here and 0,0,0 in .*a\.png"):
        survey_masks([first, second], MaskOptions())
    table = tmp_path / "colours.csv"
    table.write_text("".join(f"c{n},{r},{g},{b}\n" for n, (r, g, b) in enumerate(COLOURS)))
    encoding = survey_masks([first, second], MaskOptions(colours=table))
    assert all(np.array_equal(encoding.labels(path), truth) for path in (first, second))


@pytest.mark.parametrize("seed", range(4))
def test_colours_by_a_table(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    colours = np.unique(rng.integers(0, 256, (rng.integers(2, 200), 3)), axis=0).astype(np.uint8)
    rng.shuffle(colours)
    truth = labels(seed, len(colours), (40, 40))
    path = save(colours[truth], tmp_path / "m.png")
    table = tmp_path / "colours.csv"
    table.write_text("name,r,g,b\n" + "".join(f"class no. {n},{r},{g},{b}\n" for n, (r, g, b) in enumerate(colours)))
    encoding = survey_masks([path], MaskOptions(colours=table, ignore=("class no. 1",)))
    assert encoding.classes[:2] == ("class no. 0", "class no. 2")[: len(encoding.classes)]
    expected = np.where(truth == 1, 255, truth - (truth > 1)).astype(np.uint8)
    assert np.array_equal(encoding.labels(path), expected)
    assert MaskEncoding.from_dict(encoding.to_dict()) == encoding


@pytest.mark.parametrize(
    "text",
    [
        "name,r,g,b\nsky,1,2,3\nbig tree,4,5,6\n",
        "r,g,b,name\r\n1,2,3,sky\r\n4,5,6,big tree\r\n",
        "sky,1,2,3\nbig tree,4,5,6",
        "1 2 3\tsky\n4 5 6\tbig tree\n",
        "\ufeff1;2;3;sky\n\n4;5;6;big tree\n",
        'Class,Red,Green,Blue\n"sky",1,2,3\n"big tree",4,5,6\n',
        "id,name,r,g,b\n7,sky,1,2,3\n9,big tree,4,5,6\n",
    ],
)
def test_forms_of_a_table_of_colours(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(text)
    assert read_colours(tmp_path / "c.csv") == {(1, 2, 3): "sky", (4, 5, 6): "big tree"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sky,1,2,300\n", r"c\.csv:1: \(1, 2, 300\) is no colour"),
        ("sky,1,2,3\ntree,1,2,3\n", r"c\.csv:2: \(1, 2, 3\) is 'sky' already"),
        ("0,1,2,3\n", "may be either of"),
        ("sky,1,2,3\ntree\n", r"c\.csv:2: 'tree' is no line name,r,g,b"),
        ("name,r,g,b\n", "names no class"),
        ("name,r,g,b\nsky,1,2\n", r"c\.csv:2: .*lacks a number"),
    ],
)
def test_a_table_that_cannot_be_read(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_colours(tmp_path / "c.csv")


def test_a_colour_that_the_table_lacks_is_named_with_its_nearest(tmp_path: Path) -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[0, :3] = (250, 1, 0)
    path = save(pixels, tmp_path / "m.png")
    (tmp_path / "c.csv").write_text("ground,0,0,0\ncar,255,0,0\n")
    expected = r"m\.png: colour 250,1,0 on 3 pixels is not in .*c\.csv, whose nearest is 255,0,0, 'car'"
    with pytest.raises(ValueError, match=expected):
        survey_masks([path], MaskOptions(colours=tmp_path / "c.csv"))


def test_colours_without_a_table_are_listed(tmp_path: Path) -> None:
    path = save(np.array(COLOURS, np.uint8)[np.array([[0, 0, 1, 2]])], tmp_path / "m.png")
    with pytest.raises(ValueError, match=r"m\.png: mask of RGB colours.*--colours \(seen: 0,0,0 \(50.0%\), "):
        survey_masks([path], MaskOptions())


def test_ids_by_a_table_which_merges_and_leaves_out(tmp_path: Path) -> None:
    truth = labels(6, 4)
    path = save(np.array([0, 11, 12, 900], np.uint16)[truth], tmp_path / "m.png")
    (tmp_path / "ids.csv").write_text("id,name\n900,tree\n11,car\n12,car\n0,void\n")
    assert read_ids(tmp_path / "ids.csv") == {900: "tree", 11: "car", 12: "car", 0: "void"}
    encoding = survey_masks([path], MaskOptions(ids=tmp_path / "ids.csv", ignore=("void",)))
    assert encoding.classes == ("tree", "car")
    assert np.array_equal(encoding.labels(path), np.array([255, 1, 1, 0], np.uint8)[truth])
    (tmp_path / "ids.csv").write_text("11,car\n12,car\n0,void\n")
    with pytest.raises(ValueError, match=r"m\.png: id 900, on \d+ pixels of all masks, is not in .*ids\.csv"):
        survey_masks([path], MaskOptions(ids=tmp_path / "ids.csv"))


def test_one_file_an_object(tmp_path: Path) -> None:
    objects = [np.zeros((9, 8), np.uint8) for _ in range(3)]
    objects[0][:3] = 255
    objects[1][2:4, :2] = 255
    objects[2][7] = 1
    paths = tuple(save(mask, tmp_path / f"{number}.png") for number, mask in enumerate(objects))
    encoding = survey_masks([paths, ()], MaskOptions(classes=("nucleus",)))
    assert encoding.kind == "objects" and encoding.classes == ("background", "nucleus")
    assert np.array_equal(encoding.labels(paths), np.maximum.reduce(objects) > 0)
    assert encoding.labels((), size=(9, 8)).sum() == 0
    with pytest.raises(BadFileError, match="no object, and no size"):
        encoding.labels(())
    with pytest.raises(BadFileError, match=r"object .*0\.png is 9x8 pixels, .* 8x9"):
        encoding.labels(paths, size=(8, 9))


@pytest.mark.parametrize("form", ["png16", "uint32", "colours"])
def test_a_number_or_colour_an_object(form: str, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 4000, (50, 60))
    ids[::2] = 0
    if form == "colours":
        path = save(np.stack([ids >> 8, ids & 255, ids * 0], -1).astype(np.uint8), tmp_path / "m.png")
    else:
        path = encoded(ids, form, tmp_path)
        with pytest.raises(ValueError, match="classes are the most: give --instances if they are objects"):
            survey_masks([path], MaskOptions())
    encoding = survey_masks([path], MaskOptions(instances=True))
    assert np.array_equal(encoding.labels(path), ids > 0)


def test_pixels_outside_the_valid_mask_count_nowhere(tmp_path: Path) -> None:
    truth, valid = labels(7, 3), labels(8, 2)
    path, field = save(truth, tmp_path / "m.png"), save(valid * 255, tmp_path / "v.gif")
    encoding = survey_masks([path], MaskOptions())
    assert np.array_equal(encoding.labels(path, field), np.where(valid == 1, truth, 255))
    for values, reason in (
        (valid * 0, "0 everywhere"),
        (labels(9, 3), "holds 0, 1, 2"),
        (valid[1:], "is 12x17 pixels"),
    ):
        with pytest.raises(BadFileError, match=rf"mask of valid pixels .*v\.png.*{reason}"):
            encoding.labels(path, save(values, tmp_path / "v.png"))


def test_compressed_and_smoothed_masks_are_told_as_such(tmp_path: Path) -> None:
    truth = np.zeros((64, 64), np.uint8)
    truth[13:40, 9:50] = 255
    jpeg = tmp_path / "m.jpg"
    Image.fromarray(truth).save(jpeg, quality=60)
    with pytest.raises(ValueError, match=r"m\.jpg: .*JPEG.*--threshold 128"):
        survey_masks([jpeg], MaskOptions())
    encoding = survey_masks([jpeg], MaskOptions(threshold=128))
    assert np.array_equal(encoding.labels(jpeg), truth > 0)
    assert MaskEncoding.from_dict(encoding.to_dict()) == encoding
    smooth = tmp_path / "s.png"
    Image.fromarray(truth).resize((91, 91), Image.Resampling.BICUBIC).save(smooth)
    with pytest.raises(ValueError, match=r"s\.png: .*as smoothed edges do: give --threshold"):
        survey_masks([smooth], MaskOptions(foreground=(255,)))
    with pytest.raises(ValueError, match="no mask reaches --threshold 300"):
        survey_masks([smooth], MaskOptions(threshold=300))


def test_classes_that_do_not_fit_the_ids(tmp_path: Path) -> None:
    path = save(np.array([1, 2, 3, 5], np.uint8)[labels(0, 4)], tmp_path / "m.png")
    with pytest.raises(ValueError, match=r"m\.png: id 3 is beyond the 3 classes of --classes, and masks hold 4 ids"):
        survey_masks([path], MaskOptions(classes=("a", "b", "c")))
    encoding = survey_masks([path], MaskOptions(classes=tuple("abcdefg")))
    assert encoding.values == tuple((number, number) for number in range(7))
    with pytest.raises(ValueError, match="class 'a' stands twice"):
        survey_masks([path], MaskOptions(classes=("a", "b", "c", "a")))
    one = save(np.full((4, 4), 9, np.uint8), tmp_path / "one.png")
    with pytest.raises(ValueError, match=r"all 1 masks hold one value \(9\)"):
        survey_masks([one], MaskOptions())
    with pytest.raises(ValueError, match="no mask: check --masks"):
        survey_masks([], MaskOptions())


def test_many_ids_are_one_sentence(tmp_path: Path) -> None:
    path = save(np.arange(300, dtype=np.uint16).reshape(10, 30), tmp_path / "m.png")
    with pytest.raises(ValueError, match=r"m\.png: masks hold 299 ids \(0, 1, .*\), and 255 classes are the most"):
        survey_masks([path], MaskOptions())
    fine = save(np.arange(255, dtype=np.uint8).reshape(15, 17), tmp_path / "fine.png")
    assert np.array_equal(survey_masks([fine], MaskOptions()).labels(fine).ravel(), np.arange(255))


def test_a_damaged_mask_is_passed_over_and_refused_when_read(tmp_path: Path) -> None:
    good = save(labels(0, 3), tmp_path / "good.png")
    bad = tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:60])
    encoding = survey_masks([bad, good], MaskOptions())
    with pytest.raises(BadFileError, match="damaged"):
        encoding.labels(bad)
    with pytest.raises(ValueError, match=r"bad\.png: .*damaged"):
        survey_masks([bad], MaskOptions())
    other = save(np.full((3, 3), 77, np.uint8), tmp_path / "other.png")
    with pytest.raises(BadFileError, match="id 77, on 9 pixels, is no class of this data set"):
        encoding.labels(other)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "is no mapping"),
        ({"kind": "ids"}, "field 'classes' holds nothing"),
        ({"kind": "odd", "classes": ["a"], "colours": [[0, 0, 0]]}, "kind 'odd'"),
        ({"kind": "ids", "classes": ["a"], "colours": [[0, 0, 256]]}, "field 'colours'"),
        ({"kind": "ids", "classes": ["a"], "colours": [[0, 0, 0]], "values": {0: "b"}}, "field 'values'"),
        ({"kind": "ids", "classes": ["a"], "colours": [[0, 0, 0]], "values": {"0": "a"}}, "field 'values'"),
        ({"kind": "ids", "classes": ["a"], "colours": [[0, 0, 0]], "extra": 1}, "field 'extra' is unknown"),
        ({"kind": "threshold", "classes": ["a", "b"], "colours": [[0, 0, 0]] * 2}, "threshold None"),
    ],
)
def test_a_description_that_is_malformed(content: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        MaskEncoding.from_dict(content)


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_numpy_s(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.repeat(rng.integers(-5, 300, (300, 40)), 100, 1).astype(rng.choice(["int16", "int32", "float32"]))
    seen, counts = np.unique(values, return_counts=True)
    assert count_values(values, 1000) == dict(zip(seen.tolist(), counts.tolist(), strict=True))
    assert count_ids(values, 1000) == count_values(values, 1000)
    assert len(count_values(rng.random((1200, 1000)), 50)) > 50


@pytest.mark.parametrize("dtype", ["int32", "float64"])
def test_an_image_that_poses_as_a_mask_is_not_counted_to_its_end(dtype: str) -> None:
    values = np.arange(2**20, dtype=dtype).reshape(1024, 1024)
    assert 50 < len(count_ids(values, 50)) < 100
    with pytest.raises(BadFileError, match=r"values that are no ids, such as 0.5"):
        count_ids(values + 0.5, 50)
    with pytest.raises(BadFileError, match=r"pixels that are no number"):
        count_ids(values * np.nan, 50)
