"""No damaged file crashes or hangs a reader, and each that is refused is refused with a reason.

A sample of what `python -m tests.faults.fuzz` does at length.
"""

import random
from pathlib import Path

import pytest

from tests.faults.fuzz import Reader, fuzz, mutated
from tests.faults.readers import READERS

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused_with_a_reason(name: str) -> None:
    found = fuzz(name, inputs=60)
    assert not found.broken, "\n".join(found.broken)
    # What was sent is then compared with the server, entry by entry.
    assert found.inputs == 60 and (found.rejected > 20 or name == "sent offset")


def test_a_damaged_file_differs_and_is_the_same_each_time() -> None:
    data = Path(__file__).read_bytes()
    damaged = [mutated(data, random.Random(number)) for number in range(50)]
    assert damaged == [mutated(data, random.Random(number)) for number in range(50)]
    assert sum(one != data for one in damaged) > 45 and len(set(damaged)) > 45


def _raises(folder: Path) -> None:
    raise KeyError("class")


def _writes_elsewhere(folder: Path) -> None:
    (folder.parent / "escaped").write_text("")


def _ends(folder: Path) -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("read", "told"), [(_raises, "KeyError"), (_writes_elsewhere, "escaped"), (_ends, "SystemExit")]
)
def test_what_a_reader_must_not_do_is_found(read, told, monkeypatch, tmp_path) -> None:
    """In this process: what `fuzz` tells of each input."""
    from tests.faults.fuzz import _read, _watch

    place = tmp_path / "read"
    place.mkdir()
    outside = _watch(place)
    found = _read(Reader(lambda folder: None, read, ()), place)
    assert (found["outcome"] == "broken" and told in found["reason"]) or any(told in one for one in outside)
