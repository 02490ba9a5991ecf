"""Signatures of what a storage holds: whose key, and what does not pass."""

import multiprocessing
import os
import random
from pathlib import Path

import pytest

from miseg.service import signing


@pytest.fixture
def own_key(tmp_path, monkeypatch) -> Path:
    """The place of a key of one's own, which is not there yet."""
    monkeypatch.delenv(signing.KEY)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config/miseg/state.key"


def test_nothing_but_what_was_signed_passes():
    chance = random.Random(0)
    for _ in range(300):
        content = chance.randbytes(chance.randrange(300))
        file = signing.signed(content, "of this")
        assert signing.verified(file, "of this") == signing.unverified(file) == content
        altered = bytearray(file)
        for _ in range(chance.randint(1, 3)):
            altered[chance.randrange(len(file))] ^= chance.randint(1, 255)
        others = {bytes(altered), file[: chance.randrange(len(file))], file + b"x", content} - {file}
        for other in others:
            with pytest.raises((signing.DamagedError, signing.UnsignedError)):
                signing.verified(other, "of this")
        with pytest.raises(signing.UnsignedError, match="in another place"):
            signing.verified(file, "of that")


def test_the_first_use_makes_a_key_that_its_user_alone_reads(own_key):
    os.umask(umask := os.umask(0))
    file = signing.signed(b"content", "x")
    assert own_key.stat().st_mode & 0o777 == 0o600 and own_key.parent.stat().st_mode & 0o777 == 0o700
    assert len(own_key.read_text()) == 64 and os.umask(umask) == umask
    assert signing.verified(file, "x") == b"content"
    own_key.unlink()
    with pytest.raises(signing.UnsignedError, match="another key"):
        signing.verified(file, "x")


def _key(queue) -> None:
    queue.put(signing.key())


def test_two_first_uses_at_one_moment_make_one_key(own_key):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_key, args=(queue,)) for _ in range(8)]
    for process in processes:
        process.start()
    keys = {queue.get(timeout=30) for _ in processes}
    for process in processes:
        process.join(30)
    assert keys == {own_key.read_bytes()}


def test_a_key_that_others_may_know_is_none(own_key, tmp_path, monkeypatch):
    signing.key()
    own_key.chmod(0o640)
    with pytest.raises(signing.KeyMissingError, match=r"can be read by others.*delete it"):
        signing.key()
    own_key.unlink()
    (tmp_path / "elsewhere").write_text("0" * 64)
    own_key.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(signing.KeyMissingError, match=f"is a link.*set {signing.KEY}"):
        signing.key()
    own_key.unlink()
    own_key.touch(0o600)
    with pytest.raises(signing.KeyMissingError, match="holds no key of 32 characters: delete it"):
        signing.key()
    monkeypatch.setenv(signing.KEY, "short")
    with pytest.raises(signing.KeyMissingError, match="MISEG_STATE_KEY has 5 characters: give 32 or more"):
        signing.key()


def test_without_a_home_the_variable_holds_the_key(own_key, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "/proc/none")
    with pytest.raises(signing.KeyMissingError, match=f"cannot be kept or read .*: set {signing.KEY} to 32 or more"):
        signing.key()
    monkeypatch.setenv(signing.KEY, "of-a-team" * 4)
    assert signing.verified(signing.signed(b"content", "x"), "x") == b"content"
