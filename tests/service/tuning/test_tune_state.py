"""What Tune knows, kept and put back; a tuning that is killed and whose state is torn is in test_tune.py."""

import os
from pathlib import Path

import pytest
from pyarrow import fs

from miseg.service.tuning import state

SESSION = "2026-11-25_20-00-00"
LATER = "2026-11-25_21-00-00"


def write(folder: Path, session: str, text: str) -> list[Path]:
    """Tune's files of one session."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"experiment_state-{session}.json", folder / f"searcher-state-{session}.pkl"]
    for file in files:
        file.write_text(f"{text} of {file.name}")
    return files


@pytest.fixture
def tuning(tmp_path) -> Path:
    """A folder with three states, of which two stay, and the file that Tune writes once."""
    folder = tmp_path / "tunings/street-search"
    for text in ("first", "second", "third"):
        state.keep(fs.LocalFileSystem(), str(folder), write(folder, SESSION, text))
    (folder / state.TUNER).write_text("once")
    return folder


def texts(folder: Path) -> set[str]:
    return {file.read_text() for file in folder.iterdir() if file.suffix != ".zip"}


def of(text: str) -> set[str]:
    return {f"{text} of experiment_state-{SESSION}.json", f"{text} of searcher-state-{SESSION}.pkl", "once"}


def test_the_last_state_comes_back_alone(tuning, tmp_path):
    """Files of a later moment go, in the tuning's folder and in Ray's: Tune would take them for the newest."""
    staged = tmp_path / "session/artifacts/now/street-search/driver_artifacts"
    write(tuning, LATER, "torn"), write(staged, LATER, "torn")
    (staged / "trial_1").mkdir()
    assert state.put_back(str(tuning), tmp_path / "session")
    assert texts(tuning) == of("third")
    assert [path.name for path in staged.iterdir()] == ["trial_1"]
    assert [path.name for path in sorted(tuning.glob("*.zip"))] == ["state-000000001.zip", "state-000000002.zip"]


@pytest.mark.parametrize("left", [0, 1, 100])
def test_a_state_that_was_cut_short_is_named_and_the_one_before_is_taken(tuning, tmp_path, caplog, left):
    last = sorted(tuning.glob("state-*.zip"))[-1]
    last.write_bytes(last.read_bytes()[:left])
    assert state.put_back(str(tuning), tmp_path)
    assert texts(tuning) == of("second")
    assert last.name in caplog.text


def test_a_state_with_an_altered_byte_is_left_out(tuning, tmp_path):
    last = sorted(tuning.glob("state-*.zip"))[-1]
    altered = bytearray(last.read_bytes())
    altered[70] ^= 0xFF
    last.write_bytes(altered)
    assert state.put_back(str(tuning), tmp_path)
    assert texts(tuning) == of("second")


def test_without_a_whole_state_nothing_is_touched(tuning, tmp_path):
    for path in tuning.glob("state-*.zip"):
        path.write_bytes(b"")
    before = texts(tuning)
    assert not state.put_back(str(tuning), tmp_path)
    assert texts(tuning) == before
    assert not state.put_back(str(tmp_path / "nothing"), tmp_path)


def test_the_next_state_after_a_resume_has_the_next_number(tuning):
    state.keep(fs.LocalFileSystem(), str(tuning), write(tuning, LATER, "fourth"))
    assert [path.name for path in sorted(tuning.glob("*.zip"))] == ["state-000000002.zip", "state-000000003.zip"]


def test_what_is_written_after_the_last_turn_is_kept_too(tuning, tmp_path):
    """Else a restored tuning would take its last trial up again, though it is done."""
    session = tmp_path / "session"
    write(session / "artifacts/before/street-search/driver_artifacts", "2026-11-25_23-00-00", "of another driver")
    earlier = session / "artifacts/before/street-search/driver_artifacts"
    for path in earlier.iterdir():
        os.utime(path, (1, 1))
    write(session / "artifacts/now/avenue-search/driver_artifacts", LATER, "of another tuning")
    write(session / "artifacts/now/street-search/driver_artifacts", SESSION, "end")
    state.keep_end(str(tuning), session)
    assert state.put_back(str(tuning), tmp_path / "elsewhere") and texts(tuning) == of("end")
    state.keep_end(str(tuning), tmp_path / "nothing")
    assert state.put_back(str(tuning), tmp_path / "elsewhere") and texts(tuning) == of("end")


def test_a_state_of_another_user_is_not_taken_up(tuning, tmp_path, monkeypatch):
    """It is code: Tune unpickles it."""
    state.check_owner(str(tuning)), state.check_owner(str(tmp_path / "none")), state.check_owner("s3://bucket/x")
    (tuning / "trial").mkdir()
    (tuning / "trial" / "trainable.pkl").symlink_to(tuning / state.TUNER)
    with pytest.raises(ValueError, match=r"trainable\.pkl is a link: a tuning's state is code"):
        state.check_owner(str(tuning))
    (tuning / "trial" / "trainable.pkl").unlink()
    own = os.geteuid()
    if own == 0:  # whose files anybody may trust
        os.chown(tuning / state.TUNER, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    with pytest.raises(ValueError, match=r"belongs to user .*, not to you: a tuning's state is code"):
        state.check_owner(str(tuning))


def test_no_name_in_a_state_leads_out_of_the_folder(tuning, tmp_path, caplog):
    import zipfile

    with zipfile.ZipFile(tuning / "state-000000003.zip", "w") as archive:
        archive.writestr("../../escaped.pkl", "code")
    assert state.put_back(str(tuning), tmp_path)
    assert not list(tmp_path.rglob("escaped.pkl")) and texts(tuning) == of("third")
    assert "is not a plain file name" in caplog.text
