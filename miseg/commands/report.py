"""Write a study's report from MLflow alone: a page that works offline, Markdown and CSV.

miseg report
miseg report --study night --out report
miseg report --tuning tune-rmi-camvid-20261128-1612-ab12 --baseline BCE
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from miseg.service.cluster.uris import check_recorded
from miseg.service.command.options import JobOptions, execute

if TYPE_CHECKING:
    from miseg.service.reports.content import Content


@dataclass
class Report(JobOptions):
    """Tables beside the papers', differences with intervals, curves, what knobs did, classes, and how to repeat them.

    A study that is not finished is reported as far as it is, with what is missing.
    """

    JOINS_RAY: ClassVar[bool] = False

    study: str | None = None
    """Name of the study. Default: the last one in MLflow, or, where there is none, the last tuning."""
    tuning: str | None = None
    """Name of a tuning that was run without a study, in place of --study."""
    baseline: str | None = None
    """Row of a tuning that the others are compared with. Default: its first baseline."""
    out: str | None = None
    """Folder for the files. Default: reports/NAME in the storage, where that is a folder."""
    quiet: bool = False
    """Print the paths alone, without the verdicts."""


def run(arguments: Report) -> int:
    """Read, write, and print the answer; status 1 where a part of the plan is missing."""
    content, paths = written(arguments)
    if not arguments.quiet:
        print(content.answer)
        for row in content.rows:
            if not row.baseline:
                print(f"- {row.verdict}")
        # Not at the top: --help must not wait for it.
        from miseg.service.reports.words import grouped

        for reason, parts in grouped(content.missing):
            print(f"missing, {reason}: {', '.join(parts)}")
    for path in paths:
        print(path)
    return 1 if content.missing else 0


def written(arguments: Report) -> tuple[Content, list[Path]]:
    """The content of a report, and the files that it was written to, the page first.

    Raises:
        ValueError: options that do not go together, or no such study or tuning.
        TrackingError: MLflow does not answer.
    """
    if arguments.study is not None and arguments.tuning is not None:
        raise ValueError(f"--study {arguments.study} --tuning {arguments.tuning}: give one of the two")
    if arguments.baseline is not None and arguments.tuning is None:
        raise ValueError("--baseline is for a --tuning; a study's plan names its own")
    if arguments.out is None and "://" in arguments.root:
        raise ValueError(f"--storage {arguments.root} is no folder: say with --out where the files go")
    check_recorded(arguments.root, arguments.offline)
    # Not at the top: --help must not wait for them.
    from miseg.service.reports import content as report_content
    from miseg.service.reports import page as report_page
    from miseg.service.reports import runs as report_runs
    from miseg.service.tracking import mlflow_runs

    uri = mlflow_runs.tracking_uri(arguments.root, arguments.offline)
    mlflow_runs.check(uri, arguments.root)
    study = report_runs.read(uri, arguments.study, arguments.tuning, arguments.baseline)
    content = report_content.content(study)
    if arguments.out is None:
        # A name is anybody's text, and must not lead out of the folder.
        name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in study.name).strip(".")
        folder = Path(arguments.root) / "reports" / (name or "report")
    else:
        folder = Path(arguments.out).expanduser()
    return content, report_page.write(content, folder)


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(Report, run, __doc__)
