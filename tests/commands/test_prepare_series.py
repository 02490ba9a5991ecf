"""`miseg prepare-data --series`, and the name that every job then takes."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from miseg.commands import prepare_data
from miseg.data.packed.dataset import PackedDataset
from miseg.data.raster.scene_files import SceneOptions, open_scene
from miseg.data.sources.catalog import check_known, ensure_packed
from miseg.recipes.catalog import RECIPES
from miseg.service.command.fitting import check_fits
from tests.support.scene_layouts import raster, reflectances

DAYS = ("2019-07-20", "2019-07-25", "2019-08-04")
BANDS = ("B04", "B03", "B02", "B08")


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    """Three dates; the working folder is theirs."""
    for number, day in enumerate(DAYS):
        raster(tmp_path / "scenes" / f"{day}.tif", reflectances(number), descriptions=BANDS)
    raster(tmp_path / "labels.tif", np.arange(720).reshape(24, 30).astype(np.uint16) // 360 + 5)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MISEG_STORAGE", str(tmp_path / "storage"))
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["miseg prepare-data", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            prepare_data.main()
        return ended.value.code, *capsys.readouterr()

    return call


def test_a_name_for_every_job_and_a_description_that_packs_it_again(scenes, run):
    status, printed, errors = run("--series", "scenes", "--bands", "B08", "B04", "--out", "mine")
    assert status == 0, errors
    for line in ("3 dates, 2019-07-20 to 2019-08-04", "3 of 3 dates have at least 50%", "train: 3 images packed"):
        assert line in printed
    folder = scenes / "storage" / "data" / "mine"
    assert ensure_packed("mine", scenes / "storage") == str(folder)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"dataset.yaml", "survey.png"} <= first.keys()
    status, _, errors = run("--description", folder / "dataset.yaml")
    assert status == 0, errors
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    check_known(str(folder / "dataset.yaml"), scenes / "storage")
    again = PackedDataset.open(ensure_packed(str(folder / "dataset.yaml"), scenes / "storage"))
    assert again.info.source_sha256 == PackedDataset.open(folder).info.source_sha256


def test_a_labelled_series_is_taken_by_methods_that_fit_it_alone(scenes, run):
    assert run("--series", "scenes", "--labels", "labels.tif", "--split", "1", "--out", "mine")[0] == 0
    assert run("--series", "scenes", "--out", "plain")[0] == 0
    labelled, plain = (PackedDataset.open(scenes / "storage" / "data" / name) for name in ("mine", "plain"))
    assert labelled.info.classes == ("class 5", "class 6")
    similarity, rmi = RECIPES["flanders-similarity"](), RECIPES["embedded-rmi"]()
    check_fits(similarity, plain, ("train",))
    check_fits(similarity, labelled, ("train",))
    check_fits(replace(rmi, augmentation=replace(rmi.augmentation, crop=(24, 24))), labelled, ("train",))
    with pytest.raises(ValueError, match="has no labels, and RegionMutualInformation learns from them"):
        check_fits(rmi, plain, ("train",))
    one_date = replace(similarity, pairs=replace(similarity.pairs, other_date=0.0))
    with pytest.raises(ValueError, match=r"both views of a pair would be the same pixels; .*--pairs\.turn"):
        check_fits(one_date, plain, ("train",))
    assert run("--series", f"scenes/{DAYS[0]}.tif", "--out", "single")[0] == 0
    with pytest.raises(ValueError, match="shows no place at two dates"):
        check_fits(similarity, PackedDataset.open(scenes / "storage" / "data" / "single"), ("train",))


def test_a_model_s_bands_are_brought_into_its_order(scenes):
    path, named = scenes / "scenes" / f"{DAYS[0]}.tif", reflectances(0)
    scene = open_scene(path, SceneOptions(order=("B08", "B04")))
    np.testing.assert_array_equal(np.rint(scene.read()[0] * 10_000), named[..., [3, 0]])
    plain = raster(scenes / "plain.tif", named)
    # The user says how the file lies, the model which order it wants.
    scene = open_scene(plain, SceneOptions(bands=BANDS, order=BANDS[::-1]))
    np.testing.assert_array_equal(np.rint(scene.read()[0] * 10_000), named[..., ::-1])
    with pytest.raises(ValueError, match=r"bands B04, B03, B02, B08, the model was trained on red, nir: give --bands"):
        open_scene(plain, SceneOptions(bands=BANDS, order=("red", "nir")))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--series", "scenes"), "--out: give the data set a name"),
        (("--series", "nowhere", "--out", "x"), "--series nowhere: no such file or folder"),
        (("--bands", "B04", "--out", "x"), "--bands is for own series: give their folder with --series"),
        (("--series", "scenes", "--images", "a", "--out", "x"), "--images is for own images, --series for scenes"),
        (("--series", "scenes", "--data", "camvid", "--out", "x"), "leave one out"),
        (("--series", "scenes", "--out", "camvid"), "camvid is a published data set's name"),
        (("--series", "scenes", "--bands", "B05", "--out", "x"), "no band B05 (there: B04, B03, B02, B08)"),
        (("--series", "scenes", "--labels", "no.tif", "--out", "x"), "--labels no.tif: no such file"),
        (("--series", "scenes", "--date-format", "%d", "--out", "x"), "--date-format %d: name year, month and day"),
        (("--series", "scenes", "--split", "0.7", "0.3", "--out", "x"), "val would be 9 pixels of 30"),
    ],
)
def test_errors_are_one_line_and_nothing_is_packed(scenes, run, arguments, reason):
    status, _, errors = run(*arguments)
    assert status == 2 and len(errors.strip().splitlines()) == 1 and reason in errors, errors
    assert not (scenes / "storage").exists()
