"""The jobs' command lines: quick help, and mistakes that are told before Ray starts."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from miseg.commands import program
from miseg.data.checks import encode_png
from miseg.data.configs import Augmentation
from miseg.data.packed.packing import pack
from miseg.data.samples import DataSetInfo, Sample
from miseg.interface import Task
from miseg.methods.configs import RegionMutualInformation
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment
from miseg.service.command import options
from miseg.service.tracking.run_store import RunStore
from tests.support import ROOT

JOBS = sorted((ROOT / "jobs").glob("*.py"))
HEAVY = ("torch", "ray", "mlflow", "optuna", "numpy", "pyarrow", "pandas")


@dataclass
class Done:
    status: int
    output: str
    lines: int


def plain(text: str) -> str:
    """Without the frames, colours and line breaks that tyro puts around a message."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


def module_of(job: Path) -> str:
    """The module of the command that a script of jobs/ is."""
    return f"miseg.commands.{program.COMMANDS[job.stem.replace('_', '-')]}"


# Help


def help_of(job: Path, *arguments: str) -> tuple[str, float]:
    """What --help prints, and the processor time in seconds that it took."""
    process = subprocess.Popen(
        [sys.executable, str(job), *arguments, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    assert process.returncode == 0, text
    return text, usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_help_answers_within_two_seconds(job: Path) -> None:
    # Processor time, so that whatever else the machine does is not counted; best of three.
    seconds = []
    for _ in range(3):
        _, taken = help_of(job)
        seconds.append(taken)
        if taken < 2:
            return
    pytest.fail(f"{job.name} --help takes {min(seconds):.1f} s")


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_help_shows_defaults(job: Path) -> None:
    text = help_of(job, *(["embedded-rmi"] if job.stem == "train" else []))[0]
    assert re.search(r"\(default: (?!None)[^)]+\)", plain(text)), text
    if job.stem != "train":  # whose recipes have a help of their own
        description = importlib.import_module(module_of(job)).__doc__ or ""
        examples = re.findall(r"^(?:[A-Z_]+=\S+ )*miseg [a-z].*$", description, re.MULTILINE)
        assert examples and set(examples) <= set(text.splitlines()), "each on a line of its own"


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_help_imports_nothing_heavy(job: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{str(job)!r}, '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        f"print('imported:', sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1:] == ["imported: []"], done.stdout[-300:] + done.stderr


def test_help_of_train_shows_a_recipes_own_settings() -> None:
    text = plain(help_of(JOBS[0].with_name("train.py"), "camvid-rmi")[0])
    for shown in (
        "--steps INT Optimiser steps of the whole training. (default: 350)",
        "--method.weight FLOAT λ in 0..1",
    ):
        assert shown in text


# Mistakes


class RayStartedError(BaseException):
    """What no job can catch."""


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage whose embedded data set is two scenes of 48x64, and in which no run is recorded."""
    from miseg.data.packed.packing import pack
    from miseg.data.sources.registry import Embedded
    from miseg.service.tracking import mlflow_runs

    folder = tmp_path_factory.mktemp("command-lines")
    source = Embedded({"train": 1, "val": 1, "test": 0}, height=48, width=64)
    pack(source, folder / "data" / "embedded", source.available())
    mlflow_runs.check(mlflow_runs.tracking_uri(str(folder)), str(folder))
    return folder


@pytest.fixture
def call(storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs a job's command line in this process, where Ray must not start."""
    import ray

    def start(*args: object, **kwargs: object) -> None:
        raise RayStartedError

    monkeypatch.setattr(ray, "init", start)
    # Other tests' Ray may still be up in this process, and a job would join it instead of starting one.
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv("MISEG_STORAGE", str(storage))
    monkeypatch.setenv("COLUMNS", "200")

    def called(job: str, *arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["miseg", job.replace("_", "-"), *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        text = "".join(capsys.readouterr())
        return Done(ended.value.code, plain(text), len(text.splitlines()))

    return called


@pytest.mark.parametrize(
    ("job", "arguments", "said"),
    [
        ("train", "embedded-rmi --method.weight 1.5", "λ (weight) = 1.5: it lies in 0..1; 1 is pure BCE"),
        ("train", "embedded-rmi --method.region-size 0", "--method.region-size 0: use 1 or more; the paper uses 3"),
        (
            "train",
            "embedded-rmi --method.downsampling-factor 0",
            "--method.downsampling-factor 0: use 1 (none) or more",
        ),
        (
            "train",
            "embedded-rmi --method.downsampling-factor 33",
            "downsampling factor 33 with region size 3 needs images of at least 99 x 99 pixels; these are 96 x 128: "
            "lower one of the two",
        ),
        (
            "train",
            "embedded-rmi --augmentation.crop None --method.downsampling-factor 17",
            "downsampling factor 17 with region size 3 needs images of at least 51 x 51 pixels; these are 48 x 64: "
            "lower one of the two",
        ),
        ("train", "embedded-rmi --data nowhere", "--data 'nowhere' is neither a known data set nor packed in "),
        ("train", "embedded-rmi --data /nowhere/at/all", "/nowhere/at/all"),
        ("tune-similarity", "--data embedded", "shows no place at two dates"),
        ("train", "rmi --data embeded", "nor packed in "),
        (
            "train",
            "rmi --data embeded",
            "did you mean embedded? Pack your own images with `miseg prepare-data --images",
        ),
        ("train", "rmi --labelled-images 9", "label_budget = 9 labelled images: embedded has 1 training images"),
        ("train", "similarity --method.encoder.patch 97", "patches of 97 pixels a side do not fit into the smallest"),
        ("tune", "rmi --data embeded", "did you mean embedded?"),
        ("tune", "rmi --baselines ce embedded-dice", "embedded-dice: rmi is planned from the data, and so must they"),
        ("tune", "rmi --set batch_size=none", "--set batch_size=none: 'none' is no whole number"),
        ("tune", "rmii", "--recipe rmii: there is no such recipe; did you mean rmi"),
        ("train", "embedded-rmi --batch-size 0", "error: --batch-size 0: use 1 or more"),
        ("train", "embedded-rmi --lr 0", "error: --lr 0.0: use a value above 0"),
        ("train", "camvid-rmy", "error: camvid-rmy: there is no such recipe or method; did you mean camvid-rmi, "),
        ("train", "", "name a recipe or a method behind miseg train"),
        ("train", "--steps 3", "name a recipe or a method behind miseg train"),
        ("train", "embedded-rmi --stesp 3", "--stesp: miseg train embedded-rmi has no such option; did you mean"),
        ("train", "embedded-rmi --steps many", "error: --steps many: give a whole number"),
        ("train", "embedded-rmi --order up", "error: --order up: choose shuffle or replacement"),
        ("train", "embedded-rmi --steps", "error: --steps: give its value, INT, behind it"),
        ("train", "embedded-rmi --address 127.0.0.1:1", "--address 127.0.0.1:1: no Ray answers there"),
        ("study", "--address http://127.0.0.1:1", "is a dashboard's address"),
        ("study", "--datta pets", "error: --datta: miseg study has no such option; did you mean --data?"),
        ("train", "embedded-rmi --optimiser.learning-rate nan", "--optimiser.learning-rate nan: use a value above 0"),
        ("train", "embedded-rmi --workers 3", "3 workers cannot share batches of 8: use a divisor of it"),
        ("train", "embedded-rmi --workers 0", "0 workers cannot share batches of 8"),
        ("train", "embedded-rmi --label-budget 9", "--label-budget 9 labelled images: embedded has 1 training images"),
        (
            "train",
            "embedded-rmi --labelled-images 9",
            "label_budget = 9 labelled images: embedded has 1 training images",
        ),
        (
            "train",
            "embedded-rmi --labelled-pixels-per-class 9",
            "--labelled-pixels-per-class 9: RegionMutualInformation takes labelled images",
        ),
        ("train", "--from-run nonsense", "run nonsense at sqlite"),
        ("tune_rmi", "--trials 0", "--trials 0: use 1 or more"),
        ("tune_similarity", "--trials 0", "--trials 0: use 1 or more"),
        ("tune_infoseg", "--trials 0", "--trials 0: use 1 or more"),
        ("tune_infoseg", "--recipe camvid-iic", "--recipe camvid-iic: there is no such recipe of InfoSeg"),
        ("tune_infoseg", "--clusters 1", "--clusters 1: use 2 or more"),
        ("tune_infoseg", "--resume", "no tuning tune-infoseg-embedded-* under"),
        ("measure_information", "--estimators ksg:shape=2", "ksg has no setting shape"),
        ("measure_information", "--distributions normal", "no distribution 'normal'"),
        ("measure_information", "--samples 1", "--samples (1,): use 2 or more"),
        ("measure_information", "--resume", "leave --resume out to start one"),
        ("evaluate", "--run x --examples image", "--examples image: it is about the labelled pixels of --points"),
        ("evaluate", "--run x --draws 3", "--draws 3: it is about the labelled pixels of --points; add it"),
        ("evaluate", "--run x --points 5 --cldice pole", "--cldice pole: maps from few labels, --points, are measured"),
        ("measure_bound", "", "give --run or --checkpoint"),
        ("measure_bound", "--checkpoint nowhere", "nowhere is no checkpoint and holds none"),
        ("measure_bound", "--checkpoint nowhere --region-sizes 0", "--region-sizes (0,): use 1 or more each"),
        ("tune_similarity", "--recipe camvid-rmi", "--recipe camvid-rmi: there is no such recipe of the similarity"),
        ("tune_similarity", "--points 0", "label_budget = 0: use 1 or more labelled pixels of each class"),
        ("tune_similarity", "--data nowhere", "--data 'nowhere' is neither a known data set"),
        ("tune_similarity", "--resume", "no tuning tune-similarity-sentinel2-flanders-* under"),
        ("tune_rmi", "--confirm-seeds -1", "--confirm-seeds -1: use 1 or more"),
        ("tune_rmi", "--steps 0", "--steps 0: use 1 or more"),
        ("tune_rmi", "--seed -1", "--seed -1: use 0 or more"),
        ("tune_rmi", "--data nowhere", "--data 'nowhere' is neither a known data set nor packed in "),
        ("tune_rmi", "--workers-per-trial 3", "3 workers cannot share batches of 8: use a divisor of it"),
        (
            "tune_rmi",
            "--recipe voc-v3-ce",
            "there is no such recipe of RMI; did you mean voc-v3-rmi",
        ),
        ("tune_rmi", "--recipe porto-voc-rmi", "there is no recipe porto-voc-bce; choose another baseline"),
        ("tune_rmi", "--grid.weight 0.5 2", "λ (weight) = 2.0: it lies in 0..1"),
        ("tune_rmi", "--grid.region-size 3 3", "region_size = 3 3: name each value once"),
        ("tune_rmi", "--resume --grid.region-size 1 3", "no tuning grid-rmi-embedded-* under"),
        ("benchmark", "--repetitions 0", "--repetitions 0: use 1 or more"),
        ("tune_rmi", "--resume", "no tuning tune-rmi-embedded-* under"),
        ("tune_rmi", "--name nothing --resume", "no tuning called nothing under"),
        ("study", "--trials 0", "--trials 0: use 1 or more"),
        ("study", "--confirm-seeds 0", "--confirm-seeds 0: use 1 or more"),
        ("study", "--data nowhere", "--data 'nowhere' is neither a known data set"),
        ("study", "--data sentinel2-flanders --methods ce", "--data sentinel2-flanders: no recipe of ce there"),
        ("study", "--methods similarity", "--data embedded: no recipe of similarity there"),
        ("tune", "embedded-rim", "--recipe embedded-rim: there is no such recipe; did you mean embedded-rmi"),
        ("tune", "embedded-ce --baselines nothing", "--baselines nothing: there is no such recipe"),
        ("tune", "embedded-ce --trials 0", "--trials 0: use 1 or more"),
        ("tune", "embedded-ce --steps 0", "--steps 0: use 1 or more"),
        ("tune", "embedded-ce --selection objective", "embedded-ce learns from labels, which are what compares it"),
        (
            "tune",
            "embedded-dice --space method.smooth=0..1",
            "Dice has no setting smooth; it has weight, network, squared",
        ),
        ("tune", "embedded-rmi --space method.weight=0..2", "--space method.weight=0..2: λ (weight) = 2.0: it lies in"),
        ("tune", "embedded-rmi --space augmentation.flip=1", "give two or more values with commas between them"),
        (
            "tune",
            "camvid-rmi --data embedded --space method.network.initial_features=0,2",
            "initial_features = 0: use 1 or more",
        ),
        ("tune", "embedded-rmi --space batch_size=8,9 --workers-per-trial 2", "2 workers cannot share batches of 9"),
        ("tune", "embedded-dice --resume", "no tuning tune-embedded-dice-* under"),
        ("study", "--methods ce ce", "--methods ce ce: name each once"),
        ("study", "--budgets few", "label budget few: give all, or numbers of labelled images or pixels"),
        ("study", "--steps 9 --gpu-seconds 9", "equal steps or equal seconds, give one of the two"),
        ("study", "--steps 0", "--steps 0: use 1 or more"),
        ("study", "--price-per-hour -1", "--price-per-hour -1: use 0 or more"),
        ("study", "--name a/b", "--name 'a/b': / leads out of the folder"),
        ("train", "embedded-ce --name ../up", "--name '../up': it starts with a dot; it becomes a folder's name"),
        ("tune", "embedded-rmi --name slash/name", "--name 'slash/name': / leads out of the folder"),
        ("measure_information", "--name a?b", "--name 'a?b': ? means something else in URIs"),
        ("study", "--name nothing --resume", "no study nothing at sqlite"),
        ("study", "--budgets 9 --methods ce", "label_budget = 9 labelled images: embedded has 1 training images"),
        ("report", "--study a --tuning b", "--study a --tuning b: give one of the two"),
        ("report", "--baseline BCE", "--baseline is for a --tuning; a study's plan names its own"),
        ("report", "--study nothing", "no study 'nothing' at sqlite"),
        ("report", "--storage s3://bucket", "--storage s3://bucket is no folder: say with --out where the files go"),
        ("annotate", "", "--model is missing"),
        ("annotate", "--model m", "give one of --scene and --series"),
        ("annotate", "--model m --scene a.tif --series b", "give one of --scene and --series"),
        ("annotate", "--model m --scene a.tif --port 65536", "--port 65536: use 0 to 65535"),
        ("annotate", "--model m --scene nowhere.tif", "nowhere.tif: no such file"),
        ("evaluate", "", "give one of --run and --checkpoint"),
        ("evaluate", "--run a --checkpoint b", "give one of --run and --checkpoint"),
        ("evaluate", "--run a b --checkpoint c", "give one of --run and --checkpoint"),
        ("evaluate", "--run a b a", "--run a b a: name each run once"),
        ("evaluate", "--run nonsense", "run nonsense at sqlite"),
        ("evaluate", "--run a runs:/a", "--run a a: name each run once"),
        ("evaluate", "--checkpoint /nowhere", "/nowhere/checkpoint.json cannot be read"),
        ("segment", "--model m --images x", "--out is missing"),
        ("segment", "--model m --out maps", "--scene is missing (or give --images)"),
        ("segment", "--model m --out o --images x --series y", "give one of --images, --series and --apply-to"),
        ("segment", "--model m --out o --images x --labels y", "--scene and --labels go together"),
        (
            "segment",
            "--model m --out s3://b/o --scene x --labels y",
            "--out s3://b/o: without --images maps are written",
        ),
        (
            "segment",
            f"--model m --out o --images s3://{'key'}:{'secret'}@b/x",
            "--images s3://…@b…: keys in it would be printed",
        ),
        ("segment", "--model /nowhere --images x --out o", "--model /nowhere: no folder"),
        ("study", "--methods", "--methods: give one value or more behind it"),
        ("tune", "embedded-dice --space", "--space: give one value or more behind it"),
    ],
)
def test_a_wrong_argument_is_told_in_a_line_before_ray_starts(
    call: Callable[..., Done], job: str, arguments: str, said: str
) -> None:
    done = call(job, *arguments.split())
    assert said in done.output
    assert done.status == options.USAGE_ERROR == 2
    assert done.lines <= 3 and "Traceback" not in done.output


@pytest.mark.parametrize(
    "line",
    [
        "evaluate --run a",
        "measure-bound --run a",
        "report",
        "train --from-run a",
        "study --resume",
        "segment --model runs:/a --images x --out o",
    ],
)
def test_to_look_at_runs_where_none_was_recorded_makes_no_store(
    call: Callable[..., Done], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISEG_STORAGE", str(tmp_path))
    done = call(*line.split())
    assert done.lines == 1 and f"no run was recorded in {tmp_path} (it has no mlflow.db)" in done.output
    assert done.status == 2 and not list(tmp_path.rglob("mlflow.db"))


def test_evaluating_an_unknown_split_is_told_before_ray_starts(call: Callable[..., Done], tmp_path: Path) -> None:
    from miseg.service.checkpoints import checkpoint
    from miseg.service.training.loop import Loop

    experiment = Experiment(RegionMutualInformation(UNet(2)))
    folder = checkpoint.save(tmp_path / "checkpoint", Loop(experiment, Task(num_classes=11)), {}, {})
    done = call("evaluate", "--checkpoint", str(folder), "--split", "holdout")
    assert done.status == 2 and "holdout" in done.output and "train" in done.output and "val" in done.output
    done = call("evaluate", "--checkpoint", str(folder), "--points", "5")
    assert done.status == 2 and "RegionMutualInformation takes no labelled pixels: leave --points out" in done.output


@pytest.fixture(scope="module")
def trained(storage: Path) -> Callable[..., str]:
    """Records an experiment with an untrained model, as a training does; the run's id."""
    from miseg.service.checkpoints import checkpoint
    from miseg.service.tracking import mlflow_runs, models
    from miseg.service.training.loop import Loop

    uri = mlflow_runs.tracking_uri(str(storage))
    mlflow_runs.check(uri, str(storage))

    def record(name: str, classes: int = 11, **settings: object) -> str:
        experiment = Experiment(RegionMutualInformation(UNet(2)), **settings)
        run_id = mlflow_runs.open_experiment_run(RunStore(str(storage), uri), experiment, name, "f00d")
        folder = checkpoint.save(storage / "kept" / name, Loop(experiment, Task(num_classes=classes)), {}, {})
        models.log_model(uri, run_id, "best", folder)
        return run_id

    return record


def test_mapping_nothing_or_by_wrong_tiles_is_told_before_ray_starts(call: Callable[..., Done], tmp_path: Path) -> None:
    from miseg.service.checkpoints import checkpoint
    from miseg.service.training.loop import Loop

    loop = Loop(Experiment(RegionMutualInformation(UNet(2))), Task(num_classes=11))
    folder = checkpoint.save(tmp_path / "checkpoint", loop, {}, {"mean": [0.5] * 3, "std": [0.2] * 3})
    arguments = ("segment", "--model", str(folder), "--out", str(tmp_path / "maps"), "--images")
    for more, said in (
        ((str(tmp_path / "none"),), "nothing there: give an image, a folder of images"),
        ((str(tmp_path), "--tile", "100"), "--tile 100: use a multiple of 16 pixels"),
        ((str(tmp_path), "--tile", "64", "--overlap", "40"), "--overlap 40: use 0..32 pixels"),
    ):
        done = call(*arguments, *more)
        assert done.status == 2 and said in done.output, done.output
    (tmp_path / "a.png").write_bytes(b"to be found")
    with pytest.raises(RayStartedError):
        call(*arguments, str(tmp_path / "a.png"))


@pytest.mark.parametrize("option", ["--storage", "--data"])
def test_keys_in_a_uri_are_refused_and_not_repeated(call: Callable[..., Done], option: str) -> None:
    login = ":".join(["key", "secret"])
    done = call("train", "embedded-rmi", option, f"s3://{login}@bucket/miseg")
    assert done.status == 2 and "s3://…@bucket…: keys in it would be printed" in done.output
    assert "secret@" not in done.output and "key:" not in done.output
    # What comes before the sign is no key everywhere: abfss://container@account.
    options.check_no_keys("data", "abfss://container@account.dfs.core.windows.net/miseg")


@pytest.mark.parametrize(
    "uri",
    [
        "abfss://container@account.dfs.core.windows.net/miseg?client_id=a&client_secret=hidden-1",
        "https://account.blob.core.windows.net/c?sv=2022&sig=hidden-1%3D",
        "s3://bucket/miseg?X-Amz-Credential=hidden-1&x-amz-signature=b",
        "s3://bucket/miseg?region=eu&TOKEN=hidden-1",
        "s3://bucket/miseg?a=b;secret_key=hidden-1",
        "s3://bucket/miseg#access_key=hidden-1",
        "s3://bucket/miseg?%74oken=hidden-1",
        "s3://[bucket/miseg?token=hidden-1",
    ],
)
def test_keys_behind_a_question_mark_are_keys_too(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from miseg.service.tracking import mlflow_runs

    with pytest.raises(ValueError, match="keys in it would be printed") as refused:
        options.check_no_keys("storage", uri)
    assert "hidden-1" not in str(refused.value)
    if "[" not in uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(ValueError) as refused:
            mlflow_runs.take_login()
        assert "hidden-1" not in str(refused.value)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/miseg?endpoint_override=localhost:9000&scheme=http&region=eu&allow_bucket_creation=true",
        "gs://anonymous@bucket/miseg?retry_limit_seconds=9",
        "/home/me/key=token?secret=1",
        "abfss://container@account.dfs.core.windows.net/miseg?tenant_id=a&client_id=b",
    ],
)
def test_what_is_no_key_passes(uri: str) -> None:
    options.check_no_keys("storage", uri)


@pytest.mark.slow
def test_runs_that_cannot_be_compared_are_told_before_ray_starts(
    call: Callable[..., Done], trained: Callable[..., str]
) -> None:
    plain_one, sized = trained("one"), trained("sized", augmentation=Augmentation(resize=(24, 32)))
    done = call("evaluate", "--run", plain_one, sized)
    assert done.status == 2
    assert f"run {plain_one}: None, run {sized}: (24, 32)" in done.output
    assert "different sizes" in done.output and "train one again" in done.output

    elsewhere = trained("elsewhere", data="/nowhere/at/all")
    done = call("evaluate", "--run", plain_one, elsewhere)
    assert done.status == 2
    assert f"run {plain_one}: embedded, run {elsewhere}: /nowhere/at/all" in done.output and "--data" in done.output

    fewer = trained("fewer", classes=3)
    done = call("evaluate", "--run", plain_one, fewer)
    assert done.status == 2 and fewer in done.output
    assert "was trained for 3 classes of 3 channels" in done.output and "has 11 of 3" in done.output

    # What is right gets as far as Ray, else all of the above could fail for another reason.
    with pytest.raises(RayStartedError):
        call("evaluate", "--run", plain_one, elsewhere, "--data", "embedded")


class TwoDates:
    """A place at two dates, in two chips."""

    info = DataSetInfo("dated", ("bare", "grown"), ((0, 0, 0), (0, 255, 0)))

    def available(self) -> tuple[str, ...]:
        return "train", "val"

    def samples(self, split: str) -> Iterator[Sample]:
        for day in ("2020-07-01", "2021-07-01"):
            pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
            mask = encode_png((pixels[..., 0] > 127).astype(np.uint8))
            yield Sample(f"{split}/{day}", split, encode_png(pixels), mask, f"field of {split}", day)


@pytest.mark.parametrize(
    ("job", "arguments"),
    [
        ("train", ["embedded-rmi"]),
        ("train", ["rmi", "--steps", "4"]),
        ("train", ["similarity"]),
        ("tune", ["rmi", "--baselines", "ce", "--set", "batch_size=2"]),
        ("tune_rmi", []),
        ("tune_similarity", ["--data", "dated"]),
        ("tune", ["embedded-dice"]),
        ("tune", ["embedded-infoseg", "--space", "method.jitter=0..0.4", "batch_size=4,8"]),
        ("study", []),
        ("study", ["--methods", "ce", "dice"]),
        ("study", ["--plan", "--methods", "ce", "rmi"]),
        ("tune_rmi", ["--grid.region-size", "1", "3"]),
        ("train", ["embedded-rmi", "--augmentation.crop", "None"]),
    ],
)
def test_right_arguments_do_start_ray(call: Callable[..., Done], storage: Path, job: str, arguments: list[str]) -> None:
    """Else a job that fails at once for another reason would pass the tests above."""
    if "dated" in arguments:
        pack(TwoDates(), storage / "data" / "dated", ["train", "val"])
    with pytest.raises(RayStartedError):
        call(job, *arguments)


@pytest.mark.slow
def test_a_wrong_argument_fails_within_seconds_as_a_process_of_its_own(storage: Path) -> None:
    environment = os.environ | {"RAY_ADDRESS": "auto", "MISEG_STORAGE": str(storage)}
    train = [sys.executable, str(JOBS[0].with_name("train.py"))]
    began = time.monotonic()
    wrong = [*train, "embedded-rmi", "--augmentation.crop", "None", "--method.downsampling-factor", "17"]
    done = subprocess.run(wrong, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert (
        done.stderr.startswith("error: downsampling factor 17 with region size 3") and "ray" not in done.stderr.lower()
    )
    assert time.monotonic() - began < 60


# The frame


def test_only_mistakes_that_miseg_names_are_one_line() -> None:
    """An error of a library is a bug to be seen whole."""

    def ours(arguments: object) -> None:
        Experiment(steps=0)

    def a_librarys(arguments: object) -> None:
        Path("/nowhere/at/all").read_text()

    with pytest.raises(SystemExit) as ended:
        options.execute(options.JobOptions, ours, "", lambda line: [])
    assert ended.value.code == 2
    with pytest.raises(FileNotFoundError):
        options.execute(options.JobOptions, a_librarys, "", lambda line: [])


def test_a_script_of_another_checkout_is_refused(tmp_path: Path) -> None:
    """Its own code would not run: a changed file would have no effect, and nothing would say so."""
    script = tmp_path / "jobs" / "train.py"
    script.parent.mkdir()
    options.check_own_checkout(script)  # as a submitted job's may lie: without code beside it
    (tmp_path / "miseg").mkdir()
    (tmp_path / "miseg" / "__init__.py").touch()
    with pytest.raises(ValueError, match=f"{script} belongs to {tmp_path}/miseg, but .* or run miseg train"):
        options.check_own_checkout(script)
    options.check_own_checkout(ROOT / "jobs" / "train.py")
    options.check_own_checkout(Path("miseg train"))


def test_an_interrupt_ends_with_its_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(arguments: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        options.execute(options.JobOptions, interrupted, "", lambda line: [])
    assert ended.value.code == 130 and capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (1, 1)])
def test_a_jobs_status_is_its_own(returned: int | None, status: int) -> None:
    with pytest.raises(SystemExit) as ended:
        options.execute(options.JobOptions, lambda arguments: returned, "", lambda line: [])
    assert ended.value.code == status


def test_storage_is_the_options_then_the_environments_then_the_homes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MISEG_STORAGE", "~/elsewhere")
    assert options.JobOptions().root == str(tmp_path / "elsewhere")
    assert replace(options.JobOptions(), storage="s3://bucket/miseg").root == "s3://bucket/miseg"
    monkeypatch.setenv("MISEG_STORAGE", "")
    assert options.JobOptions().root == str(tmp_path / "miseg")


def test_decoded_images_have_a_budget(monkeypatch):
    monkeypatch.delenv("MISEG_DECODED_GIB", raising=False)
    assert options.JobOptions().decoded_bytes == 4 * 2**30
    monkeypatch.setenv("MISEG_DECODED_GIB", "0.5")
    assert options.JobOptions().decoded_bytes == 2**29 and options.JobOptions(decoded_gib=0).decoded_bytes == 0
    for bad in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"--decoded-gib = .*use 0 .*or more GiB"):
            _ = options.JobOptions(decoded_gib=bad).decoded_bytes
    monkeypatch.setenv("MISEG_DECODED_GIB", "4 GiB")
    with pytest.raises(ValueError, match="MISEG_DECODED_GIB = '4 GiB': give a number of GiB, such as 4"):
        _ = options.JobOptions().decoded_bytes


def test_mlflow_reports_nothing_unless_somebody_asks_for_it() -> None:
    code = "import os; os.environ.pop('MLFLOW_DISABLE_TELEMETRY', None); import miseg.service; "
    code += "print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "true"


def test_a_user_without_a_home_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MISEG_STORAGE", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(ValueError, match="no home directory is known; set HOME, or give --storage"):
        options.JobOptions().root  # noqa: B018
