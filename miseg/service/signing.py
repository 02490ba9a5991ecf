"""Signed files: what Python would run of a storage is read only where the user's own key signed it.

The key is not in the storage. It is a file of the user's configuration, which the first use makes, or
$MISEG_STATE_KEY, which machines and people share that go on with each other's tunings.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path

from miseg.files import open_own_file, open_own_folder, replacing
from miseg.locks import LockRefusedError, locked

KEY = "MISEG_STATE_KEY"
"""Variable that holds the key."""

SHORTEST = 32
"""Characters of a key, at least."""

_FORMAT = b"miseg-signed 1 sha256=%s hmac-sha256=%s\n"
"""First line of a signed file; the content follows."""

_FIRST_LINE = re.compile(_FORMAT % (b"([0-9a-f]{64})", b"([0-9a-f]{64})"))
_LINE_LENGTH = len(_FORMAT % (b"0" * 64, b"0" * 64))
_MAGIC = _FORMAT.partition(b"%")[0]


class KeyMissingError(ValueError):
    """There is no key, or none that only its user knows; the message says how to get one."""


class DamagedError(ValueError):
    """A signed file that was cut short or altered."""


class UnsignedError(ValueError):
    """A file without a signature, or with that of another key."""


def signed(content: bytes, purpose: str) -> bytes:
    """The content behind a line with its signature: one file, so that a kill leaves both or neither.

    Args:
        content: what is signed.
        purpose: what the file is, and of what; `verified` wants the same, so that no file stands in for another.

    Raises:
        KeyMissingError: there is no key.
    """
    digest = hashlib.sha256(content).hexdigest()
    return _FORMAT % (digest.encode(), _signature(digest, purpose).encode()) + content


def verified(file: bytes, purpose: str) -> bytes:
    """Content of a signed file.

    Raises:
        DamagedError: not all of what was signed is there.
        UnsignedError: it is not signed, or by another key, or for another purpose.
        KeyMissingError: there is no key.
    """
    content = unverified(file)
    line = _FIRST_LINE.match(file)
    if line is None:
        raise UnsignedError("has no signature")
    if not hmac.compare_digest(line[2].decode(), _signature(line[1].decode(), purpose)):
        raise UnsignedError("is signed with another key, or in another place")
    return content


def unverified(file: bytes) -> bytes:
    """Content of a file that may be signed, whoever wrote it; a file without a signature is its content.

    Raises:
        DamagedError: not all of what was signed is there.
    """
    line = _FIRST_LINE.match(file)
    if line is None:
        if file[:_LINE_LENGTH].startswith(_MAGIC) or _MAGIC.startswith(file):
            raise DamagedError("is cut short or altered")
        return file
    content = file[_LINE_LENGTH:]
    if hashlib.sha256(content).hexdigest() != line[1].decode():
        raise DamagedError("is cut short or altered")
    return content


def key() -> bytes:
    """The key of this user; the first call of all makes it.

    Raises:
        KeyMissingError: it cannot be made or read, others can read it, or the variable's is too short.
    """
    text = os.environ.get(KEY, "").strip()
    if text:
        if len(text) < SHORTEST:
            many = f"{len(text)} characters: give {SHORTEST} or more, as `openssl rand -hex 32` does"
            raise KeyMissingError(f"{KEY} has {many}")
        return text.encode()
    try:
        return _own_key()
    except (OSError, RuntimeError) as error:  # the latter is Python's, where no home is known
        raise KeyMissingError(
            f"the key that signs the state of tunings cannot be kept or read ({error}): set {KEY} to {SHORTEST} or "
            "more characters that only you know, and to the same ones at each --resume"
        ) from None


def key_file() -> Path:
    """The file of this user's key.

    Raises:
        RuntimeError: no home is known.
    """
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "miseg", "state.key")


def _own_key() -> bytes:
    path = key_file()
    folder = open_own_folder(path.parent)
    try:
        try:
            return _read(path, folder)
        except FileNotFoundError:
            _make(path)
        return _read(path, folder)
    finally:
        os.close(folder)


def _make(path: Path) -> None:
    """Write a new key, unless another process does so at the same moment."""
    try:
        with locked(path.with_name(f"{path.name}.lock")):
            if not path.exists():
                _write(path)
    except LockRefusedError:
        _write(path)


def _write(path: Path) -> None:
    with replacing(path, durable=True) as unfinished:
        unfinished.touch(0o600)
        unfinished.write_text(secrets.token_hex(32))


def _read(path: Path, folder: int) -> bytes:
    with open(open_own_file(path, os.O_RDONLY, folder), "rb") as file:
        if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyMissingError(f"{path} can be read by others, who could sign with it: delete it, for a new one")
        content = file.read(4096).strip()
    if len(content) < SHORTEST:
        raise KeyMissingError(f"{path} holds no key of {SHORTEST} characters: delete it, for a new one")
    return content


def _signature(digest: str, purpose: str) -> str:
    return hmac.new(key(), f"{purpose}\n{digest}".encode(), hashlib.sha256).hexdigest()
