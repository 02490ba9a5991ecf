"""C loops for the CPU, compiled on the machine that they run on; where no compiler is, PyTorch computes.

An operation of PyTorch reads and writes whole maps; a loop in C keeps a row in the cache from a logit to its gradient.
The files compile in a second, once for each machine, where `torch.compile` took 10 to 50 s for a part of them.

`MISEG_COMPILER` names the compiler; empty, nothing is compiled. Else it is `CC`, `cc`, `gcc` or `clang`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from miseg.files import open_own_file, open_own_folder, replacing

NAMES = "pooled_sigmoid.c", "region_covariance.c", "wavelet_spectra.c"
SOURCES = tuple(Path(__file__).with_name(name) for name in NAMES)
HEADER = Path(__file__).with_name("exponential.h")

FLAGS = ("-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")

NATIVE = ("-march=native", "-mprefer-vector-width=512"), ("-march=native",), ("-mcpu=native",), ()
"""Tried in turn: not every compiler and processor knows the first ones."""

COMPILER_SECONDS = 60

_MARK = b"miseg SHA-256: "
_DIGEST = hashlib.sha256().digest_size
_TAIL = len(_MARK) + _DIGEST
"""Bytes behind a library in the cache, which loading passes over: a mark, and the SHA-256 of what is before it."""


def available() -> bool:
    """Whether there are compiled loops; the first call compiles them."""
    return _library(os.environ.get("MISEG_COMPILER")) is not None


def call(function: str, *arguments: Any) -> None:
    """Run a function of the C files, its shares on as many threads as PyTorch uses.

    Args:
        function: its name.
        arguments: tensors, `ctypes` values and structures; the two last, share and shares, are added here.

    Raises:
        MemoryError: a share found no memory for its rows.
    """
    library = _library(os.environ.get("MISEG_COMPILER"))
    assert library is not None, "call it where available()"
    native = getattr(library, function)
    passed = [ctypes.c_void_p(value.data_ptr()) if isinstance(value, Tensor) else value for value in arguments]
    shares = torch.get_num_threads()

    def take(share: int) -> int:
        return native(*passed, ctypes.c_int64(share), ctypes.c_int64(shares))

    # The interpreter's lock is free while C runs. OpenMP would bring a second pool of threads beside PyTorch's own, and
    # each would spin while the other works.
    others = _threads(os.getpid(), shares).map(take, range(1, shares)) if shares > 1 else ()
    if take(0) or any(list(others)):
        raise MemoryError(f"no memory for the rows of {function}: use smaller images or fewer classes")


def structure(*values: int) -> Any:
    """A pointer to a C structure of int64 fields."""
    return ctypes.byref((ctypes.c_int64 * len(values))(*values))


@functools.cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    # By process, because threads do not survive a fork.
    return ThreadPoolExecutor(count - 1, thread_name_prefix="miseg-loss")


@functools.cache
def _library(wanted: str | None) -> ctypes.CDLL | None:
    named = wanted if wanted is not None else os.environ.get("CC")
    try:
        compiler = _compiler(wanted)
        if compiler is None:
            return None
        named = shlex.join(compiler)
        return _loaded(compiler)
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        reason = " ".join(str(getattr(error, "stderr", None) or error).split())[:500]
        warnings.warn(
            f"the loops of RMI and CWMI could not be compiled with {named} ({reason}): PyTorch computes them, which "
            "takes about three times as long. Mend the compiler, name another in MISEG_COMPILER, or set "
            "MISEG_COMPILER to nothing to leave it so",
            stacklevel=3,
        )
        return None


def _compiler(wanted: str | None) -> list[str] | None:
    if wanted is not None:
        return shlex.split(wanted) or None
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and (words := shlex.split(name)) and shutil.which(words[0]):
            return words
    return None


def _loaded(compiler: list[str]) -> ctypes.CDLL:
    """The library for these sources, this compiler and this processor, from the user's cache or compiled now."""
    # A home may be shared by machines whose processors differ.
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=COMPILER_SECONDS)
    key = hashlib.sha256("\n".join([*compiler, version.stdout, *FLAGS, _processor()]).encode())
    for source in (*SOURCES, HEADER):
        key.update(source.read_bytes())
    name = f"losses-{key.hexdigest()[:16]}.so"
    if (cache := _cache()) is None:
        # Nobody but this process has it, and the file may go once it is loaded.
        with tempfile.TemporaryDirectory(prefix="miseg-") as folder:
            _compile(compiler, Path(folder) / name)
            return ctypes.CDLL(str(Path(folder) / name))
    if _is_whole(cache / name):
        return ctypes.CDLL(str(cache / name))
    library = None
    try:
        # Workers that start together may all be here. What does not load is not kept.
        with replacing(cache / name, durable=True, several=True) as unfinished:
            _compile(compiler, unfinished)
            library = ctypes.CDLL(str(unfinished))
            digest = hashlib.sha256(unfinished.read_bytes()).digest()
            with unfinished.open("ab") as file:
                file.write(_MARK + digest)
            unfinished.chmod(0o600)
    except OSError:  # of a disk that is full once it is loaded
        if library is None:
            raise
    return library


def _is_whole(path: Path) -> bool:
    """Whether this user's own library is there, as it was compiled: a part of one ends the process that runs it."""
    try:
        folder = open_own_folder(path.parent)
        try:
            with open(open_own_file(path, os.O_RDONLY, folder), "rb") as file:
                content = file.read()
        finally:
            os.close(folder)
    except OSError:
        return False
    code, mark, digest = content[:-_TAIL], content[-_TAIL:-_DIGEST], content[-_DIGEST:]
    return mark == _MARK and hashlib.sha256(code).digest() == digest


def _compile(compiler: list[str], target: Path) -> None:
    for native in NATIVE:
        try:
            subprocess.run(
                [*compiler, *FLAGS, *native, *map(str, SOURCES), "-o", str(target)],
                check=True,
                capture_output=True,
                text=True,
                timeout=COMPILER_SECONDS,
            )
            return
        except subprocess.CalledProcessError:
            if not native:
                raise


def _cache() -> Path | None:
    """The folder of the user's cache that nobody else can write to; None where there is none, as without a home."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "miseg"
        os.close(open_own_folder(folder))
        return folder if os.access(folder, os.W_OK) else None
    except (OSError, RuntimeError):  # Python's, where no home is known
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    # x86 lists "flags", ARM "Features".
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.machine())
