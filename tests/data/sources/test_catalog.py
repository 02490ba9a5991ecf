import subprocess
import sys
from pathlib import Path

import pytest

from miseg.data.packed.dataset import PackedDataset
from miseg.data.sources import catalog, registry
from miseg.data.sources.catalog import ensure_packed


@pytest.fixture
def few_scenes(monkeypatch):
    monkeypatch.setitem(
        registry.DATA_SETS, "embedded", lambda root: registry.Embedded({"train": 3, "val": 1}, height=32, width=32)
    )


def test_the_embedded_set_is_drawn_on_first_use_only(few_scenes, tmp_path, monkeypatch):
    path = ensure_packed("embedded", tmp_path)
    assert path == str(tmp_path / "data" / "embedded")
    assert PackedDataset.open(path).size("train") == 3
    monkeypatch.setattr(catalog, "pack", lambda *_, **__: pytest.fail("packed twice"))
    assert ensure_packed("embedded", str(tmp_path)) == path


def test_two_processes_at_once(tmp_path):
    script = (
        "import sys; from miseg.data.sources import catalog, registry\n"
        "draw = lambda root: registry.Embedded({'train': 40}, height=32, width=32)\n"
        "registry.DATA_SETS['embedded'] = draw\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"print(catalog.ensure_packed('embedded', {str(tmp_path)!r}))"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", script], **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    paths = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert paths == [str(tmp_path / "data" / "embedded")] * 2
    PackedDataset.open(paths[0]).verify()
    assert [path.name for path in Path(tmp_path, "data").iterdir()] == ["embedded"]


def test_the_loser_uses_the_winner_s(few_scenes, tmp_path, monkeypatch):
    """Another process moves its data set into place while this one still packs."""
    out, pack = tmp_path / "data" / "embedded", catalog.pack

    def overtaken(*arguments, **settings):
        pack(registry.Embedded({"train": 2}, seed=9, height=32, width=32), out, ["train"])
        return pack(*arguments, **settings)

    monkeypatch.setattr(catalog, "pack", overtaken)
    assert PackedDataset.open(ensure_packed("embedded", tmp_path)).size("train") == 2
    assert [path.name for path in out.parent.iterdir()] == ["embedded"]


def test_camvid_is_packed_from_miseg_data(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("MISEG_DATA", str(tmp_path))
    tree.root = tmp_path / "camvid"
    for split in ("train", "val"):
        tree.add("a.png", split)
    assert PackedDataset.open(ensure_packed("camvid", tmp_path / "storage")).splits == ("train", "val")


def test_camvid_with_a_bad_file_is_not_packed_silently(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("MISEG_DATA", str(tmp_path))
    tree.root = tmp_path / "camvid"
    tree.add("a.png")
    tree.add("b.png")[0].write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 files of camvid were rejected.*b\.png: empty file.*miseg prepare-data"):
        ensure_packed("camvid", tmp_path / "storage")
    assert not (tmp_path / "storage" / "data" / "camvid").exists()


def test_paths_and_uris(small, tmp_path):
    assert ensure_packed(small.uri, tmp_path) == small.uri
    uri = Path(small.uri).as_uri()
    assert ensure_packed(uri, tmp_path) == uri
    with pytest.raises(ValueError, match=r"dataset\.json cannot be read"):
        ensure_packed(str(tmp_path), tmp_path)


def test_unknown_name(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"'citiscapes' is neither a known data set nor packed in .*; did you mean cityscapes\? .*prepare-data",
    ):
        ensure_packed("citiscapes", tmp_path)


def test_a_half_copied_folder_is_not_overwritten(few_scenes, tmp_path):
    (tmp_path / "data" / "embedded").mkdir(parents=True)
    (tmp_path / "data" / "embedded" / "train-00000.parquet").write_bytes(b"x")
    with pytest.raises(ValueError, match="holds something that is no packed data set"):
        ensure_packed("embedded", tmp_path)
