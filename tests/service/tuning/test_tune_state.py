"""What Tune knows, kept and put back; a tuning that is killed and whose state is torn is in test_tune.py."""

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from miseg.service import signing
from miseg.service.tuning import state

SESSION = "2026-11-25_20-00-00"
LATER = "2026-11-25_21-00-00"


def write(folder: Path, session: str, text: str) -> list[Path]:
    """Tune's files of one session, and the one that it writes once."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"experiment_state-{session}.json", folder / f"searcher-state-{session}.pkl"]
    for file in files:
        file.write_text(f"{text} of {file.name}")
    (folder / state.TUNER).write_text("once")
    return [*files, folder / state.TUNER]


@pytest.fixture
def tuning(tmp_path) -> Path:
    """A folder with three states, of which two stay."""
    folder = tmp_path / "tunings/street-search"
    folder.mkdir(parents=True)
    for text in ("first", "second", "third"):
        state.keep(str(folder), write(tmp_path / "tune", SESSION, text))
    return folder


class Tunes:
    """Tune's own folder, made anew for each time that a state is put back."""

    def __init__(self, tmp_path: Path, name: str = "street-search") -> None:
        self.path, self.name, self.times = tmp_path, name, 0

    def put_back(self, tuning: Path, session: Path | None = None, **options) -> set[str] | None:
        """Texts of the files that Tune gets."""
        self.times += 1
        folder = self.path / f"own-{self.times}" / self.name
        if not state.put_back(str(tuning), folder, session or self.path / "none", **options):
            assert not folder.exists()
            return None
        return {file.read_text() for file in folder.iterdir()}


@pytest.fixture
def tunes(tmp_path) -> Tunes:
    return Tunes(tmp_path)


def of(text: str) -> set[str]:
    return {f"{text} of experiment_state-{SESSION}.json", f"{text} of searcher-state-{SESSION}.pkl", "once"}


def names(tuning: Path) -> list[str]:
    return sorted(path.name for path in tuning.iterdir())


def test_the_last_state_comes_back_alone(tuning, tunes, tmp_path):
    """Files of a later moment in Ray's folder go, and those in the storage are not read: Tune takes the newest."""
    staged = tmp_path / "session/artifacts/now/street-search/driver_artifacts"
    write(tuning, LATER, "torn"), write(staged, LATER, "torn")
    (staged / "trial_1").mkdir()
    assert tunes.put_back(tuning, tmp_path / "session") == of("third")
    assert [path.name for path in staged.iterdir()] == ["trial_1"]
    assert [path.name for path in sorted(tuning.glob("*.zip"))] == ["state-000000001.zip", "state-000000002.zip"]


@pytest.mark.parametrize("left", [0, 1, 100, 250])
def test_a_state_that_was_cut_short_is_named_and_the_one_before_is_taken(tuning, tunes, caplog, left):
    last = sorted(tuning.glob("state-*.zip"))[-1]
    last.write_bytes(last.read_bytes()[:left])
    assert tunes.put_back(tuning) == of("second")
    assert last.name in caplog.text


@pytest.mark.parametrize("place", [40, 200, -5])
def test_a_state_with_an_altered_byte_is_left_out(tuning, tunes, place):
    last = sorted(tuning.glob("state-*.zip"))[-1]
    altered = bytearray(last.read_bytes())
    altered[place] ^= 1
    last.write_bytes(altered)
    assert tunes.put_back(tuning) == of("second")


def test_without_a_whole_state_there_is_none(tuning, tunes, tmp_path):
    for path in tuning.glob("state-*.zip"):
        path.write_bytes(b"")
    assert tunes.put_back(tuning) is None and state.is_there(str(tuning))
    assert tunes.put_back(tmp_path / "nothing") is None and not state.is_there(str(tmp_path / "nothing"))


def test_a_tuning_that_was_killed_before_its_first_trial_is_there_without_a_state(tunes, tmp_path):
    folder = tmp_path / "tunings/street-search"
    with state.own_folder(str(folder)) as own:
        write(own / "street-search", SESSION, "first")
        state.keep_begin(own / "street-search")
        assert own.stat().st_mode & 0o077 == 0
    assert state.is_there(str(folder)) and tunes.put_back(folder) is None


def test_the_next_state_after_a_resume_has_the_next_number(tuning, tmp_path):
    state.keep(str(tuning), write(tmp_path / "tune", LATER, "fourth"))
    assert names(tuning) == ["state-000000002.zip", "state-000000003.zip"]
    (tuning / "state-000000003.zip").rename(tuning / "state-9999999999.zip")  # more digits than the others have
    state.keep(str(tuning), write(tmp_path / "tune", LATER, "fifth"))
    assert names(tuning) == ["state-10000000000.zip", "state-9999999999.zip"]


def test_what_is_written_after_the_last_turn_is_kept_too(tuning, tunes, tmp_path):
    """Else a restored tuning would take its last trial up again, though it is done."""
    session = tmp_path / "session"
    earlier = session / "artifacts/before/street-search/driver_artifacts"
    write(earlier, "2026-11-25_23-00-00", "of another driver")
    for path in earlier.iterdir():
        os.utime(path, (1, 1))
    write(session / "artifacts/now/avenue-search/driver_artifacts", LATER, "of another tuning")
    write(session / "artifacts/now/street-search/driver_artifacts", SESSION, "end")
    with state.own_folder(str(tuning)) as own:
        write(own / "street-search", SESSION, "")
        state.keep_end(own / "street-search", session)
        assert tunes.put_back(tuning) == of("end")
        state.keep_end(own / "street-search", tmp_path / "nothing")
    assert tunes.put_back(tuning) == of("end")


class Exploit:
    """A pickle that leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def forged(path: Path, exploit: Exploit, key: str = "") -> None:
    """A state as a stranger writes it, with a signature of his own where he has a `key`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in (state.TUNER, f"{state.EXPERIMENT}{LATER}.json", f"{state.SEARCH}{LATER}.json"):
            archive.writestr(name, pickle.dumps(exploit))
    if key:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(signing.KEY, key)
            number = int(path.stem.removeprefix("state-"))
            path.write_bytes(signing.signed(path.read_bytes(), f"tuning {path.parent.name} state {number}"))


@pytest.mark.parametrize("key", ["", "a-key-of-a-stranger" * 2])
def test_no_code_of_a_stranger_is_run(tuning, tunes, tmp_path, key):
    """Whoever can write to a bucket may leave a state there, and Tune's own files."""
    escaped = tmp_path / "escaped"
    forged(tuning / "state-000000007.zip", Exploit(escaped), key)
    (tuning / state.TUNER).write_bytes(pickle.dumps(Exploit(escaped)))
    reason = "is signed with another key, or in another place" if key else "has no signature"
    for act in (
        lambda: tunes.put_back(tuning, limits=state.Limits(2, 1)),
        lambda: state.check(str(tuning.parent), "street"),
    ):
        with pytest.raises(
            ValueError, match=rf"state-000000007\.zip {reason}, and --resume would run .* --trust-state"
        ):
            act()
    assert not escaped.exists()
    (tuning / "state-000000007.zip").unlink()
    assert tunes.put_back(tuning) == of("third") and not escaped.exists()
    state.check(str(tuning.parent), "street")


def test_the_forged_state_of_these_tests_would_run(tuning, tunes, tmp_path):
    forged(tuning / "state-000000007.zip", Exploit(tmp_path / "escaped"))
    with pytest.raises(AttributeError):
        tunes.put_back(tuning, limits=state.Limits(2, 1), trusted=True)
    assert (tmp_path / "escaped").exists()


def test_a_state_of_another_moment_or_tuning_does_not_pass_for_one(tuning, tunes, tmp_path):
    last = sorted(tuning.glob("state-*.zip"))[-1]
    (tuning / "state-000000003.zip").write_bytes(last.read_bytes())
    with pytest.raises(ValueError, match=r"state-000000003\.zip is signed with another key, or in another place"):
        tunes.put_back(tuning)
    (tuning / "state-000000003.zip").unlink()
    other = tuning.rename(tmp_path / "tunings/avenue-search")
    with pytest.raises(ValueError, match="another place"):
        tunes.put_back(other)


def test_a_state_of_before_or_of_another_key_is_taken_where_that_is_asked_for(tuning, tunes, tmp_path, monkeypatch):
    monkeypatch.setenv(signing.KEY, "another-key-of-this-user" * 2)
    with pytest.raises(ValueError, match=f"set {signing.KEY} to the key of who wrote it"):
        tunes.put_back(tuning)
    assert tunes.put_back(tuning, trusted=True) == of("third")
    with zipfile.ZipFile(tuning / "state-000000003.zip", "w") as archive:  # as the version before wrote it
        archive.writestr(f"{state.EXPERIMENT}{SESSION}.json", "of before")
    (tuning / state.TUNER).write_text("beside")
    assert tunes.put_back(tuning, trusted=True) == {"of before", "beside"}


def test_a_tuning_whose_name_begins_another_s_is_checked_alone(tuning, tmp_path):
    (tuning.parent / "street-b-search").mkdir()
    forged(tuning.parent / "street-b-search/state-000000001.zip", Exploit(tmp_path / "escaped"))
    state.check(str(tuning.parent), "street")
    (tuning.parent / "street-0123abcd-confirm").mkdir()
    forged(tuning.parent / "street-0123abcd-confirm/state-000000001.zip", Exploit(tmp_path / "escaped"))
    with pytest.raises(ValueError, match="has no signature"):
        state.check(str(tuning.parent), "street")


def test_no_name_in_a_state_leads_out_of_the_folder(tuning, tunes, tmp_path, caplog):
    with zipfile.ZipFile(tuning / "state-000000003.zip", "w") as archive:
        archive.writestr("../../escaped.pkl", "code")
    assert tunes.put_back(tuning, trusted=True) == of("third")
    assert not list(tmp_path.rglob("escaped.pkl"))
    assert "is not a plain file name" in caplog.text


def test_without_a_key_nothing_is_kept_and_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(signing.KEY)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/proc/none")
    folder = tmp_path / "tunings/street-search"
    with state.own_folder(str(folder)) as own:
        write(own / "street-search", SESSION, "first")
        state.keep_begin(own / "street-search")
        state.keep_end(own / "street-search", tmp_path)
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "--resume will ask for its trials anew" in out and f"set {signing.KEY}" in out
    assert not list(folder.iterdir())


KEEPS = """
import os, random, signal, sys, time
from pathlib import Path
from miseg.service.tuning import state

def keep_for_ever(folder, files):
    number = time.monotonic_ns()
    while True:
        number += 1
        for file in files:
            file.write_text(f"{number} " * 20000)
        state.keep(folder, files)

chance = random.Random(0)
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        keep_for_ever(sys.argv[1], [Path(path) for path in sys.argv[2:]])
    time.sleep(chance.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("killed", flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_state_that_is_signed_and_of_one_moment(tunes, tmp_path):
    """60 kills at random moments of a process that does nothing but keep states."""
    folder, last = tmp_path / "tunings/street-search", 0
    folder.mkdir(parents=True)
    files, program = write(tmp_path / "tune", SESSION, ""), tmp_path / "keeps.py"
    program.write_text(KEEPS)
    command = [sys.executable, str(program), str(folder), *map(str, files)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        for _ in range(60):
            print("next", file=process.stdin, flush=True)
            assert process.stdout.readline() == "killed\n"
            texts = tunes.put_back(folder)
            if texts is not None or last:
                assert texts is not None and len(texts) == 1, "files of two moments"
                moment = int(texts.pop().split()[0])
                assert moment >= last, "an earlier moment than before"
                last = moment
    assert last and all(path.name.startswith(("state-", ".state-")) for path in folder.iterdir()), names(folder)
