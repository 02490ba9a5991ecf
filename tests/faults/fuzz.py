"""Feeds readers with damaged files: python -m tests.faults.fuzz --inputs 1500

Each reader reads in a process of its own: one that crashes, hangs, runs out of memory, writes outside its folder or
raises anything but a ValueError with a reason is reported with the input that did it, and the rest goes on.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

HANG_SECONDS = 10
MEMORY = 6 * 2**30
"""Address space of a reader's process: a header that announces a terabyte must be refused, not believed."""

WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}


@dataclass(frozen=True)
class Reader:
    """How valid files of one kind are made, and how they are read.

    Attributes:
        make: fills a folder with a valid input.
        read: reads it.
        damaged: names of the files that are damaged, one at a time.
        seal: makes checksums fit again, as whoever forges a file would; done for every other input.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    damaged: tuple[str, ...]
    seal: Callable[[Path], object] | None = None


@dataclass
class Found:
    """What became of a reader's inputs."""

    accepted: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def inputs(self) -> int:
        """Those that were read."""
        return self.accepted + self.rejected + len(self.broken)


def fuzz(name: str, inputs: int, seed: int = 0) -> Found:
    """Read so many damaged inputs with the reader of that name in `readers.READERS`."""
    found, context = Found(), multiprocessing.get_context("spawn")
    first = 0
    while first < inputs:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_read_all, args=(name, first, inputs, seed, theirs), daemon=True)
        process.start()
        theirs.close()
        first = _follow(ours, process, first, found)
        process.kill()
        process.join()
    return found


def _follow(ours: Connection, process: multiprocessing.process.BaseProcess, first: int, found: Found) -> int:
    """Count what the process tells until it ends; the number of the input that the next one starts with."""
    number, patience = first, 120.0  # the first message comes after the imports
    while True:
        try:
            if not ours.poll(patience):
                found.broken.append(f"input {number}: no answer within {patience:.0f} s")
                return number + 1
            told = ours.recv()
        except EOFError:
            process.join()
            if patience > HANG_SECONDS:
                raise RuntimeError("the reader does not read its valid input: see above") from None
            if process.exitcode:
                found.broken.append(f"input {number}: the process ended with {process.exitcode}")
            return number + 1
        patience = HANG_SECONDS
        number = told["input"]
        if "outcome" not in told:
            continue
        found.slowest = max(found.slowest, told["seconds"])
        if told["outcome"] == "accepted":
            found.accepted += 1
        elif told["outcome"] == "rejected":
            found.rejected += 1
            found.reasons[told["reason"]] += 1
        else:
            found.broken.append(f"input {number}: {told['reason']}")


def _read_all(name: str, first: int, inputs: int, seed: int, pipe: Connection) -> None:
    from tests.faults.readers import READERS

    faulthandler.enable()
    warnings.simplefilter("error")
    reader = READERS[name]
    with tempfile.TemporaryDirectory() as beside:
        origin, place = Path(beside) / "origin", Path(beside) / "read"
        origin.mkdir()
        tempfile.tempdir = str(place)  # temporary files may be written, to the reader's own folder
        reader.make(origin)
        place.mkdir(exist_ok=True)
        _copy(origin, place)
        reader.read(place)  # the valid input, and what it imports
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        outside = _watch(place)
        for number in range(first, inputs):
            pipe.send({"input": number})
            _copy(origin, place)
            rng = random.Random(f"{seed}/{name}/{number}")
            damaged = place / rng.choice(reader.damaged)
            damaged.write_bytes(mutated(damaged.read_bytes(), rng))
            if reader.seal is not None and number % 2:
                reader.seal(place)
            outside.clear()
            started = time.perf_counter()
            told = _read(reader, place)
            if outside:
                told = {"outcome": "broken", "reason": f"touched {outside[0]}"}
            if told["outcome"] == "broken" and (kept := os.environ.get("MISEG_FUZZ_KEEP")):
                _copy(place, Path(kept) / f"{name}-{number}")
            pipe.send(told | {"input": number, "seconds": time.perf_counter() - started})
    pipe.close()


def _read(reader: Reader, place: Path) -> dict[str, str]:
    try:
        reader.read(place)
    except ValueError as error:
        reason = str(error).strip()
        if len(reason) < 10:
            return {"outcome": "broken", "reason": f"rejected without a reason: {error!r}"}
        return {"outcome": "rejected", "reason": reason}
    except BaseException:
        return {"outcome": "broken", "reason": traceback.format_exc(limit=-6)}
    return {"outcome": "accepted"}


def _watch(place: Path) -> list[str]:
    """A list that fills with what this process writes, makes, renames or runs outside of `place`."""
    outside: list[str] = []
    inside = str(place)

    def hear(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            wrote = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            path = os.fsdecode(arguments[0])
        elif event in WRITES and not isinstance(arguments[0], int):  # an open file was heard when it was opened
            # Relative to an open folder: of shutil.rmtree, which is heard with the folder itself.
            wrote = arguments[-1] == -1 or event == "shutil.rmtree" or not isinstance(arguments[-1], int)
            path = os.fsdecode(arguments[0])
        elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
            wrote, path = True, f"ran {arguments[0]}"
        else:
            return
        if wrote and not os.path.abspath(path).startswith(inside):
            outside.append(f"{event} {path}")

    sys.addaudithook(hear)
    return outside


def _copy(origin: Path, place: Path) -> None:
    for path in sorted(origin.rglob("*")):
        target = place / path.relative_to(origin)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())


def mutated(data: bytes, rng: random.Random) -> bytes:
    """`data` with one to four damages; JSON mostly stays JSON, so that what stands in it is reached."""
    if data[:1] in b"{[" and rng.random() < 0.7:
        try:
            return json.dumps(_altered(json.loads(data), rng)).encode()
        except (ValueError, RecursionError):
            pass
    for _ in range(rng.randint(1, 4)):
        data = rng.choice(_DAMAGES)(data, rng)
    return data


ODD = (
    None, True, False, 0, -1, 1, 255, 256, 2**31, 2**63, -(2**63), 10**40, 1e308, -1e-308, float("nan"), float("inf"),
    "", " ", "\x00", "../../escaped", "/etc/passwd", "é" * 300, "1", "nan", [], {}, [[]], [None], {"": None},
    [[[[[[[[]]]]]]]], {"a": {"a": {"a": {}}}}, "POINT (0 0)", "EPSG:0", "con", "a" * 70000,
)  # fmt: skip


def _altered(value: object, rng: random.Random) -> object:
    """JSON with something else at one place, left out, or twice."""
    places = list(_places(value))
    if not places or rng.random() < 0.03:
        return rng.choice(ODD)
    for _ in range(rng.randint(1, 3)):
        holder, key = rng.choice(places)
        draw = rng.random()
        try:
            if draw < 0.6:
                holder[key] = rng.choice(ODD)
            elif draw < 0.8:
                del holder[key]
            elif isinstance(holder, list):
                holder.insert(key, holder[key])
            else:
                holder[str(rng.choice(ODD))[:50]] = holder.pop(key)
        except (LookupError, TypeError):  # the damage before took this place away
            continue
    return value


def _places(value: object) -> Iterator[tuple[object, object]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from _places(item)


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _head(data: bytes, rng: random.Random) -> bytes:
    """Something else in the first bytes: that is where sizes and types stand."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        if changed:
            changed[rng.randrange(min(len(changed), 512))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    return bytes(changed)


def _number(data: bytes, rng: random.Random) -> bytes:
    """A number of 2, 4 or 8 bytes that is very large, or small."""
    width = rng.choice((2, 4, 8))
    at = rng.randrange(max(1, len(data) - width))
    value = rng.choice((0, 1, 2 ** (8 * width - 1) - 1, 2 ** (8 * width) - 1, 2 ** (4 * width)))
    return data[:at] + value.to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _gap(data: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[end:]


def _twice(data: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:end] + data[end:]


def _noise(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randint(1, 64)) + data[at:]


def _text(data: bytes, rng: random.Random) -> bytes:
    """Odd text in the middle of it."""
    at = rng.randrange(len(data) + 1)
    odd = rng.choice(("\x00", '"', ",", ";", "\n", "\r", "-", "1e999", "nan", "9" * 40, "\ufeff", "../", "{", "]"))
    return data[:at] + odd.encode() + data[at + rng.randint(0, 3) :]


_DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _head, _head, _number, _number, _cut, _gap, _twice, _noise, _text,
)  # fmt: skip


def main() -> int:
    """Fuzz every reader, or those named, and print a table."""
    from tests.faults.readers import READERS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1500, help="damaged inputs of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--verbose", action="store_true", help="show the most frequent reasons too")
    arguments = parser.parse_args()
    total, broken = 0, 0
    print(f"{'reader':<22}{'inputs':>8}{'rejected':>10}{'accepted':>10}{'broken':>8}{'slowest, s':>12}")
    for name in arguments.readers:
        found = fuzz(name, arguments.inputs, arguments.seed)
        total, broken = total + found.inputs, broken + len(found.broken)
        counts = f"{found.inputs:>8}{found.rejected:>10}{found.accepted:>10}{len(found.broken):>8}"
        print(f"{name:<22}{counts}{found.slowest:>12.2f}", flush=True)
        for line in found.broken[:5]:
            print("  " + line.replace("\n", "\n  "))
        if arguments.verbose:
            for reason, count in found.reasons.most_common(8):
                print(f"    {count:>5}  {reason[:160]}")
    print(f"{total} inputs, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
