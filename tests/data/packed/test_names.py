"""A packed data set is found by its name in the storage in use, and an unknown name is told with what there is."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.names import is_plain, located, packed_names
from miseg.data.packed.packing import pack
from miseg.data.sources.catalog import ensure_packed
from miseg.data.sources.registry import DATA_SETS, Embedded


def pets(folder: Path, seed: int = 0) -> Path:
    return pack(Embedded({"train": 2, "val": 1}, seed, height=16, width=16), folder, ("train", "val")).path


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A storage with two data sets, and a folder that is none; the working directory is another, and empty."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    pets(tmp_path / "store" / "data" / "pets")
    shutil.copytree(tmp_path / "store" / "data" / "pets", tmp_path / "store" / "data" / "vessels 2")
    (tmp_path / "store" / "data" / "empty").mkdir()
    return tmp_path / "store"


@pytest.mark.parametrize("as_uri", [False, True])
def test_a_name_is_what_is_packed_under_it_in_the_storage(storage: Path, as_uri: bool) -> None:
    root = storage.as_uri() if as_uri else str(storage)
    found = located("pets", root)
    assert found == f"{root}/data/pets" == ensure_packed("pets", root)
    assert PackedDataset.open(found).size("train") == 2
    assert packed_names(root) == ["pets", "vessels 2"]
    assert PackedDataset.open(located("vessels 2", root)).fingerprint == PackedDataset.open(found).fingerprint


def test_an_unknown_name_is_told_at_once_with_the_nearest_and_all_that_is_packed(storage: Path) -> None:
    started = time.perf_counter()
    with pytest.raises(ValueError, match=r"'pest' is neither .* nor packed in .*/store/data \(pets, vessels 2\)"):
        ensure_packed("pest", storage)
    assert time.perf_counter() - started < 2
    with pytest.raises(
        ValueError, match=r"did you mean pets\? Pack your own images with `miseg prepare-data .* --out pest`"
    ):
        located("pest", storage, DATA_SETS)
    with pytest.raises(ValueError, match=r"did you mean camvid"):
        located("canvid", storage, DATA_SETS)
    with pytest.raises(ValueError, match=r"\(nothing is\)"):
        located("pets", storage / "elsewhere")


def test_a_folder_of_the_working_directory_is_taken_where_the_storage_has_no_such_name(storage: Path) -> None:
    nuclei = pets(Path("nuclei"), seed=1)
    assert located("nuclei", storage) == str(nuclei.absolute())
    Path("empty").mkdir()
    with pytest.raises(ValueError, match="the folder empty here is no packed data set"):
        located("empty", storage)


def test_two_data_sets_of_one_name_are_not_chosen_from_silently(storage: Path) -> None:
    shutil.copytree(storage / "data" / "pets", "pets")
    assert located("pets", storage) == str(storage / "data" / "pets"), "both are the same"
    pets(Path("pets"), seed=1)
    with pytest.raises(ValueError, match=r"give the path of the one that is meant \(\./pets\)"):
        located("pets", storage)
    assert located("./pets", storage) == "./pets"


def test_what_is_no_plain_name() -> None:
    names = ["pets", "a b", "pets.v2", "./pets", "..", "~/x", "s3://b/x", "c:\\x"]
    assert [name for name in names if is_plain(name)] == ["pets", "a b", "pets.v2"]
