"""Folders are listed whatever other threads do to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow import fs

from miseg.data.storage import listed


class Racing:
    """A file system that does not find the folder the first time, as pyarrow where another thread makes it."""

    def __init__(self, times: int) -> None:
        self.times = times

    def get_file_info(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        if self.times:
            self.times -= 1
            raise FileNotFoundError(f"Cannot list directory '{selector.base_dir}'")
        return fs.LocalFileSystem().get_file_info(selector)


def test_what_a_folder_holds(tmp_path: Path) -> None:
    local = fs.LocalFileSystem()
    assert listed(local, str(tmp_path / "missing")) == []
    (tmp_path / "there").mkdir()
    assert [info.base_name for info in listed(local, str(tmp_path))] == ["there"]


def test_a_folder_that_is_made_while_it_is_listed_is_listed_again(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert [info.base_name for info in listed(Racing(1), str(tmp_path))] == ["there"]
    with pytest.raises(FileNotFoundError):
        listed(Racing(2), str(tmp_path))
