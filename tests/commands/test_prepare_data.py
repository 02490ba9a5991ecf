import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from typing import get_args, get_type_hints

import numpy as np
import pytest

from miseg.commands import prepare_data
from miseg.data.packed.dataset import PackedDataset
from miseg.data.sources.described import DESCRIBED
from miseg.data.sources.registry import DATA_SETS
from tests.support import ROOT
from tests.support.layouts import CamVidTree, CityscapesTree, CocoStuffTree, VocTree

JOB = ROOT / "jobs" / "prepare_data.py"


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def tree(tmp_path):
    return CamVidTree(tmp_path / "CamVid")


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the job in this process, which has imported Arrow already."""

    def call(*arguments, **environment):
        monkeypatch.delenv("MISEG_DATA", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["miseg prepare-data", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            prepare_data.main()
        return Done(ended.value.code, *capsys.readouterr())

    return call


def run_alone(*arguments, **environment):
    env = {key: value for key, value in os.environ.items() if not key.startswith("MISEG_")} | environment
    command = [sys.executable, "-W", "error", str(JOB), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)


def check_failure(done, reason):
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and reason in done.stderr


def test_help_is_quick_and_shows_defaults():
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = run_alone("--help")
    # Processor time, so that a busy machine does not count against it: 0.2 s without NumPy, Arrow and torch.
    assert done.returncode == 0 and resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 1
    for text in ("--max-rejected", "default: 240", "--min-size", "MISEG_STORAGE", "voc-aug", "cityscapes"):
        assert text in done.stdout


def test_embedded_into_the_default_place(tmp_path):
    done = run_alone(
        "--train", 3, "--val", 2, "--test", 0, "--height", 32, "--width", 48, "--seed", 7, MISEG_STORAGE=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert "train: 3 images packed, 0 rejected" in done.stdout and "val: 2 images packed" in done.stdout
    dataset = PackedDataset.open(tmp_path / "data" / "embedded")
    assert dataset.splits == ("train", "val") and dataset.read("val", 0).width == 48


def test_bad_files_fail_the_job_but_good_ones_are_packed(tree, tmp_path, run):
    tree.add("good.png")
    bad, _ = tree.add("bad é.png")
    bad.write_bytes(b"")
    arguments = ("--data", "camvid", "--root", tree.root, "--out", tmp_path / "out")
    done = run(*arguments)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "train: 1 images packed, 1 rejected" in done.stdout and "1 files rejected, 0 allowed" in done.stderr
    assert PackedDataset.open(tmp_path / "out").size("train") == 1
    (line,) = (tmp_path / "out" / "rejected.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line) == {"file": str(bad), "reason": "empty file (0 bytes): copy it again"}
    assert run(*arguments, "--max-rejected", 1).returncode == 0


def test_voc_with_sbd(tmp_path, run):
    tree = VocTree(tmp_path)
    for name, split in (("a", "train"), ("b", "train"), ("c", "val")):
        tree.add(name, split)
    for name, split in (("b", "train"), ("d", "train"), ("c", "val"), ("e", "val")):
        tree.add_sbd(name, split)
    done = run("--data", "voc-aug", "--root", tree.root, MISEG_STORAGE=str(tmp_path / "storage"))
    assert done.returncode == 0, done.stderr
    assert "train: 4 images packed, 0 rejected" in done.stdout and "val: 1 images packed" in done.stdout
    assert PackedDataset.open(tmp_path / "storage" / "data" / "voc-aug").info.name == "voc-aug"
    done = run("--data", "voc", MISEG_DATA=str(tmp_path), MISEG_STORAGE=str(tmp_path / "storage"))
    check_failure(done, f"{tmp_path / 'voc'}: no such folder")
    tree.root.joinpath("voc").symlink_to(tree.root)
    done = run("--data", "voc", MISEG_DATA=str(tmp_path), MISEG_STORAGE=str(tmp_path / "storage"))
    assert "train: 2 images packed, 0 rejected" in done.stdout and "val: 1 images packed" in done.stdout


def test_cityscapes_with_colours_alone_for_one_image(tmp_path, run):
    tree = CityscapesTree(tmp_path / "cityscapes")
    for frame in ("aachen_000000_000019", "aachen_000001_000019"):
        _, mask = tree.add(frame)
    mask.rename(mask.with_name(mask.name.replace("labelIds", "color")))
    done = run("--data", "cityscapes", "--out", tmp_path / "out", MISEG_DATA=str(tmp_path))
    assert done.returncode == 1 and "train: 1 images packed, 1 rejected" in done.stdout
    assert "aachen_000001_000019_gtFine_color.png: colours without label ids" in done.stderr


def test_coco_stuff_by_rule_by_list_and_whole(tmp_path, run):
    tree = CocoStuffTree(tmp_path / "coco")
    for name in ("000000000009", "000000000025"):
        tree.add(name)
    tree.add("000000000030", labels=np.zeros((400, 400), np.uint8))
    (path := tmp_path / "list.txt").write_text("000000000030\n000000000025\n000000000036\n")
    arguments = ("--data", "coco-stuff-15", "--root", tree.root, "--out", tmp_path / "out")
    done = run(*arguments)
    assert done.returncode == 0 and "train: 2 images packed, 0 rejected" in done.stdout, done.stderr
    assert "train: 3 images packed, 0 rejected" in run(*arguments, "--no-curated").stdout
    done = run(*arguments, "--image-list", path)
    assert done.returncode == 1 and "train: 2 images packed, 1 rejected" in done.stdout
    assert f"{path}:3: no image '000000000036' in split 'train'" in done.stderr
    check_failure(run(*arguments, "--image-list", path, "--no-curated"), "leave one of the two out")
    check_failure(run(*arguments, "--image-list", tmp_path / "no.txt"), "no.txt: cannot be read (No such file")


def test_every_data_set_can_be_asked_for(run):
    names, nothing = get_args(get_type_hints(prepare_data.PrepareData)["data"])
    assert get_args(names) == (*DATA_SETS, *DESCRIBED) and nothing is type(None)


def test_potsdam_s_three_classes_have_the_folder_of_the_six(tmp_path, run):
    done = run("--data", "potsdam-3", MISEG_DATA=str(tmp_path), MISEG_STORAGE=str(tmp_path / "storage"))
    check_failure(done, f"{tmp_path}/potsdam/4_Ortho_RGBIR has no tile")


def test_min_size(tree, tmp_path, run):
    tree.add("good.png", size=(20, 20))
    tree.add("small.png", size=(12, 20))
    done = run("--data", "camvid", "--root", tree.root, "--out", tmp_path / "out", "--min-size", 20, 20)
    assert done.returncode == 1 and "12x20 pixels is smaller than the crop 20x20" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--data", "camvid"), "set MISEG_DATA"),
        (("--data", "camvid", "--root", "/nowhere"), "/nowhere: no such folder"),
        (("--data", "voc"), "set MISEG_DATA to the folder that holds voc/"),
        (("--data", "voc-aug", "--root", "/nowhere"), "VOCtrainval_11-May-2012.tar"),
        (("--data", "cityscapes", "--root", "/nowhere"), "gtFine_trainvaltest.zip"),
        (("--data", "coco-persons", "--root", "/nowhere"), "annotations_trainval2017.zip"),
        (("--data", "coco-persons", "--no-curated"), "--no-curated are for coco-stuff-15: leave them out"),
        (("--image-list", "x.txt"), "leave them out for embedded"),
        (("--root", "/tmp"), "leave the root out"),
        (("--train", "-1"), "--train -1"),
        (("--height", "2"), "2x128 pixels"),
        (("--splits", "trian"), "split 'trian'"),
        (("--out", str(JOB)), "is a file"),
    ],
)
def test_errors_are_one_line(arguments, reason, tmp_path, run):
    check_failure(run(*arguments, MISEG_STORAGE=str(tmp_path)), reason)


def test_a_missing_split_is_one_line(tree, tmp_path, run):
    tree.add("a.png")
    arguments = ("--data", "camvid", "--root", tree.root, "--out", tmp_path / "out", "--splits", "train", "test")
    check_failure(run(*arguments), "test.txt is missing")
    assert not (tmp_path / "out").exists()
