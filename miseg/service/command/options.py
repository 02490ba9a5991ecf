"""The frame of every job: arguments from a dataclass, a user's mistake as one line."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import miseg
from miseg.extras import MissingExtraError
from miseg.file_names import given_name
from miseg.service.cluster import (
    reachable,
    threads,  # noqa: F401  (before any job's torch)
)
from miseg.service.cluster.uris import check_tracking, keys_masked
from miseg.service.command.library_errors import USAGE_ERROR, Failure, library_failure
from miseg.service.command.parsing import Rewriting, parse, with_flag
from miseg.service.terminal import going_on
from miseg.service.terminal.interrupted import InterruptedJobError
from miseg.service.terminal.library_lines import JobLog

MAY_BE_EMPTY: Mapping[str, bool] = MappingProxyType({"may_be_empty": True})
"""Metadata of an option that, given without a value, means none, though it has a default."""

DECODED_GIB = 4
"""GiB of decoded images that a machine keeps where nobody says."""


@dataclass
class JobOptions:
    """Options of every job: the Ray that it runs on and the storage that it writes to."""

    storage: str | None = None
    """Folder or URI of packed data, checkpoints and journals. Default: $MISEG_STORAGE, else ~/miseg."""
    address: str | None = None
    """Ray cluster to join. Default: $RAY_ADDRESS (set for submitted jobs), else a Ray on this machine alone."""
    decoded_gib: float | None = None
    """GiB of decoded images that each machine keeps in files of Ray's folder, which the system holds in memory while
    there is room, so that a training decodes each image once; 0 keeps none. Default: $MISEG_DECODED_GIB, else 4."""

    offline: bool = False
    """Record runs without a server, in the storage's own folder; `miseg sync` sends them to one later."""

    JOINS_RAY: ClassVar[bool] = True
    """Whether the job joins or starts a Ray."""

    @property
    def root(self) -> str:
        """The storage that is meant; a folder is absolute.

        Raises:
            ValueError: a URI with keys in it, or a home directory that is not known.
        """
        value = self.storage or os.environ.get("MISEG_STORAGE") or "~/miseg"
        check_no_keys("storage", value)
        try:
            return value if "://" in value else str(Path(value).expanduser().resolve())
        except RuntimeError:  # Python's, of a user without a home
            raise ValueError(f"storage = {value}: no home directory is known; set HOME, or give --storage") from None

    @property
    def starts_ray(self) -> bool:
        """Whether the job is for a Ray of this machine, which it starts."""
        return self.address is None and "RAY_ADDRESS" not in os.environ

    @property
    def decoded_bytes(self) -> int:
        """Bytes of decoded images that a machine may keep.

        Raises:
            ValueError: the setting is no number of GiB.
        """
        name, value = "--decoded-gib", self.decoded_gib
        if value is None:
            name, text = "MISEG_DECODED_GIB", os.environ.get("MISEG_DECODED_GIB") or str(DECODED_GIB)
            try:
                value = float(text)
            except ValueError:
                raise ValueError(f"{name} = {text!r}: give a number of GiB, such as 4; 0 keeps nothing") from None
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} = {value:g}: use 0 (nothing is kept) or more GiB")
        return int(value * 2**30)


def check_data(name: str, storage: str) -> None:
    """Raise ValueError where the data set `name` is neither known nor packed: at once, before a job's slow imports."""
    # Only now: it brings Arrow along.
    from miseg.data.sources.catalog import check_known

    check_no_keys("data", name)
    check_known(name, storage)


def check_no_keys(option: str, uri: str) -> None:
    """Raise ValueError where a URI holds a key and its secret: it is printed, and kept with the runs."""
    if (masked := keys_masked(uri)) is not None:
        raise ValueError(
            f"{option} = {masked}: keys in it would be printed and kept "
            "with the runs; leave them out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what the store has "
            "in their place"
        )


def execute(
    arguments: Any, run: Callable[[Any], int | None], description: str | None, rewriting: Rewriting = list
) -> None:
    """Parse the command line into `arguments`, call `run` and exit with the status it returns.

    What a user can mend (a value out of range, a missing file, a server that is down) ends with status 2 and one line.
    So does an error of a library, with the status of its kind; $MISEG_TRACEBACK shows its trace instead.
    `rewriting` changes the line before it is parsed.
    """
    program = ["python"] if sys.argv[0].endswith(".py") else []
    command = [*program, *sys.argv[0].split(), *sys.argv[1:]]
    going_on.begin(command)
    try:
        # What several options are wrong about together is found after their parsing, outside tyro's own messages.
        # Lines that follow each other are one paragraph to tyro: the examples would stand in one line.
        examples = re.sub(r"(?<=\S)\n(?=([A-Z_]+=\S+ )*miseg )", "\n\n", description or "")
        check_own_checkout(Path(sys.argv[0]))
        options = parse(arguments, called_as(), examples, rewriting(sys.argv[1:]))
        check_given(options)
        if isinstance(name := getattr(options, "name", None), str):
            options.name = given_name("--name", name)
        if isinstance(options, JobOptions) and options.JOINS_RAY:
            # Here already: packing and imports take a while.
            reachable.check(options.address)
            if not options.offline:
                check_tracking(os.environ.get("MLFLOW_TRACKING_URI", ""))
            JobLog.begin(options.root, called_as().rpartition(" ")[2].removesuffix(".py").rpartition("/")[2])
        status = run(options)
    except InterruptedJobError as error:
        print(error.text(command), file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if isinstance(error, ValueError | OSError | RuntimeError | MissingExtraError) and _is_ours(error):
            failure = Failure(with_flag(str(error), sys.argv[1:]), USAGE_ERROR)
        elif (of_library := library_failure(error)) is None or os.environ.get("MISEG_TRACEBACK"):
            raise
        else:
            failure = of_library
        print(f"error: {failure.sentence}", file=sys.stderr)
        sys.exit(failure.status)
    if status and (hint := JobLog.hint()):
        print(hint, file=sys.stderr)
    sys.exit(status or 0)


def check_own_checkout(script: Path) -> None:
    """Raise ValueError where a checkout's script would run the code of a miseg that is installed elsewhere."""
    checkout, package = script.resolve().parent.parent, Path(miseg.__file__).resolve().parent
    own = checkout / "miseg"
    if script.suffix == ".py" and script.parent.name == "jobs" and (own / "__init__.py").is_file() and own != package:
        raise ValueError(
            f"{script} belongs to {own}, but {package} is what Python imports: its changes would have no effect; "
            f"pip install --editable {checkout}, or run miseg {script.stem.replace('_', '-')}"
        )


def check_given(options: Any) -> None:
    """Raise ValueError where an option was given without the values that it takes."""
    if not is_dataclass(options):
        return
    for field in fields(options):
        value = getattr(options, field.name)
        if value == () and field.default is None and not field.metadata.get("may_be_empty"):
            raise ValueError(f"--{field.name.replace('_', '-')}: give one value or more behind it, or leave it out")


def called_as() -> str:
    """Name by which this process was called, for its usage line: "miseg train" or "jobs/train.py"."""
    return "/".join(Path(sys.argv[0]).parts[-2:])


def _is_ours(error: BaseException) -> bool:
    """Whether miseg or the job raised `error` on purpose: its text says what to do, and a traceback would bury that."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "") if traceback is not None else ""
    return module == "__main__" or module.startswith("miseg.")
