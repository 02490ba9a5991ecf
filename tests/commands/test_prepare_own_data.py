"""`miseg prepare-data` of own images and masks, and the name that every job then takes."""

import os
import subprocess
import sys

import numpy as np
import pytest

from miseg.commands import prepare_data
from miseg.data.packed.dataset import PackedDataset
from miseg.data.sources.catalog import ensure_packed
from tests.support import ROOT
from tests.support.layouts import noise, picture


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """Ten photos with masks of 0 and 255; the working folder is theirs."""
    for n in range(10):
        picture(tmp_path / "photos" / f"pet {n}.jpg", noise(n))
        mask = np.zeros((12, 16), np.uint8)
        mask[:, : 1 + n] = 255
        picture(tmp_path / "masks" / f"pet {n}_mask.png", mask)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MISEG_STORAGE", str(tmp_path / "storage"))
    monkeypatch.delenv("MISEG_DATA", raising=False)
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["miseg prepare-data", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            prepare_data.main()
        return ended.value.code, *capsys.readouterr()

    return call


OWN = ("--images", "photos/*.jpg", "--masks", "masks/*_mask.png", "--foreground", "255")


@pytest.mark.slow
def test_a_name_for_every_job(pets, run):
    status, printed, errors = run(*OWN, "--classes", "background", "pet", "--out", "pets", "--seed", "2")
    assert status == 0, errors
    assert "mask of an image: * ↔ *_mask" in printed and "splits drawn with seed 2" in printed
    assert "train: 7 images packed, 0 rejected" in printed
    dataset = PackedDataset.open(ensure_packed("pets", pets / "storage"))
    assert dataset.uri == str(pets / "storage" / "data" / "pets") and dataset.info.classes == ("background", "pet")
    first = {path.name: path.read_bytes() for path in (pets / "storage" / "data" / "pets").iterdir()}
    assert "dataset.yaml" in first
    status, printed, errors = run("--description", pets / "storage" / "data" / "pets" / "dataset.yaml")
    assert status == 0, errors
    assert {path.name: path.read_bytes() for path in (pets / "storage" / "data" / "pets").iterdir()} == first


def test_files_that_the_shell_found(pets, run):
    photos, masks = (sorted(map(str, pets.glob(pattern))) for pattern in ("photos/*", "masks/*"))
    status, printed, errors = run("--images", *photos, "--masks", *masks, "--foreground", "255", "--out", "./here")
    assert status == 0 and "train: 7 images packed" in printed, errors
    assert PackedDataset.open(pets / "here").info.name == "here", "a path is a path"


def test_a_description_is_data_too(pets, run):
    (pets / "own.yaml").write_text("name: pets\nimages: photos\nmasks: masks\nforeground: 255\n")
    dataset = PackedDataset.open(ensure_packed("own.yaml", pets / "storage"))
    assert dataset.info.name == "pets" and dataset.size("train") == 7
    assert ensure_packed("own.yaml", pets / "storage") == dataset.uri, "packed once"
    (pets / "own.yaml").write_text("name: pets\nimages: photos\nmasks: masks\nforeground: 255\nsplit: [0.5, 0.5]\n")
    assert PackedDataset.open(ensure_packed("own.yaml", pets / "storage")).size("train") == 5, "changed, packed again"


def test_a_name_of_two_data_sets(pets, run):
    assert run(*OWN, "--out", "pets")[0] == 0 and run(*OWN, "--out", "./pets", "--seed", "9")[0] == 0
    with pytest.raises(ValueError, match=r"data = 'pets' is .*storage/data/pets or .*/pets: give the path"):
        ensure_packed("pets", pets / "storage")
    with pytest.raises(ValueError, match=r"'pest' is neither a known .*pets\).*did you mean pets\?.*--out pest"):
        ensure_packed("pest", pets / "storage")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--images", "fotos/*.jpg", "--out", "x"), "--images fotos/*.jpg: matches nothing: there is no folder"),
        (("--images", "photos/*.png", "--out", "x"), "photos holds pet 0.jpg, pet 1.jpg"),
        (("--images", "photos", "--masks", "masks/*.gif", "--out", "x"), "--masks masks/*.gif: matches nothing"),
        (("--images", "photos"), "--out: give the data set a name"),
        (("--images", "photos", "--out", "a b"), "--out 'a b': give a name of letters"),
        (("--images", "photos", "--out", "camvid"), "camvid is a published data set's name"),
        (("--masks", "masks"), "--masks is for own images: give them with --images"),
        (("--images", "photos", "--data", "camvid", "--out", "x"), "leave one out"),
        ((*OWN, "--out", "x", "--group", "("), "--group '(' is no regular expression"),
        ((*OWN, "--out", "x", "--group", "(dog)"), "--group '(dog)' matches nothing in 'pet 0'"),
        ((*OWN, "--out", "x", "--split", "0.7", "0.7"), "add up to 1"),
        ((*OWN, "--out", "x", "--lists", "no.txt"), "--lists no.txt: no such file"),
        (("--description", "no.yaml"), "no.yaml: cannot be read (No such file"),
        (("--description", "no.yaml", "--seed", "1"), "--seed: the description says that"),
        ((*OWN[:4], "--out", "x"), "--foreground"),
        ((*OWN, "--out", "photos/pet 0.jpg"), "is a file"),
    ],
)
def test_errors_are_one_line_and_nothing_is_packed(pets, run, arguments, reason):
    status, _, errors = run(*arguments)
    assert status == 2 and len(errors.strip().splitlines()) == 1 and reason in errors, errors
    assert not (pets / "storage").exists()


def test_bad_input_is_told_before_anything_slow_is_imported(pets):
    code = (
        "import sys; from miseg.commands.program import main\n"
        "sys.argv[1:] = ['prepare-data', '--images', 'fotos/*.jpg', '--out', 'x']\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "slow = {'torch', 'ray', 'mlflow', 'optuna', 'pandas', 'scipy', 'rasterio', 'timm', 'matplotlib'}\n"
        "print(code, sorted(slow & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert "matches nothing" in done.stderr and done.stdout.splitlines()[-1] == "2 []", done.stderr + done.stdout
