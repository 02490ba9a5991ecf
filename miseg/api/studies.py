"""`miseg.study`: a study from Python."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from miseg.api.session import session
from miseg.api.settings import Settings, check_names, joined, sorted_out, texts
from miseg.nearest_names import in_place_of

if TYPE_CHECKING:
    from miseg.api.results import StudyResult


def study(
    data: Sequence[str] | str | None = None,
    methods: Sequence[str] | None = None,
    *,
    trials: int | None = None,
    name: str | None = None,
    settings: Settings | None = None,
    verbose: bool = False,
) -> StudyResult:
    """Compare methods on data sets under equal budgets, as `miseg study` does, and write the report.

    Args:
        data: data sets, as of `miseg.train`. Default: the embedded scenes.
        methods: methods, such as ("ce", "rmi"). Default: those that `miseg study` takes.
        trials: trials of every method. Default: 6, or 32 on a cluster with GPUs.
        name: name of the study, under which it goes on with `settings={"resume": True}`. Default: the time.
        settings: any other option of `miseg study`, by its name, and settings that all methods have: {"steps": 200,
            "confirm_seeds": 5, "budgets": ["all", "8"], "batch_size": 4}.
        verbose: print what `miseg study` prints.

    Raises:
        ValueError: a mistake in what is asked for, or a storage that is no folder, in which the report would lie.
        TrackingError, MissingExtraError: as of `miseg.train`.
    """
    with session("miseg.study", verbose):
        # Only now: they bring the extra's packages along.
        import pandas as pd

        from miseg.api.results import StudyResult
        from miseg.commands import report
        from miseg.commands import study as command
        from miseg.file_names import given_name
        from miseg.recipes.contenders import CONTENDERS
        from miseg.recipes.study import Changes
        from miseg.service.study.start import Options, start

        values = joined(
            settings,
            data=(data,) if isinstance(data, str) else None if data is None else tuple(data),
            methods=None if methods is None else tuple(methods),
            trials=trials,
            name=name,
        )
        for method in values.get("methods") or ():
            if method not in CONTENDERS:
                meant = in_place_of(method, CONTENDERS, "miseg study --help")
                raise ValueError(f"methods = {method}: there is no such method; {meant}")
        named = sorted_out(values, Options, reserved=("changes", "plan"))
        changes = sorted_out(named.rest, Changes, reserved=("set",))
        check_names(changes.rest, Options, Changes)
        options = Options(**named.options, changes=Changes(**changes.options, set=texts(changes.rest) or None))
        if options.name is not None:
            options.name = given_name("name", options.name)
        if "://" in options.root:
            raise ValueError(f"storage = {options.root}: the report lies in the storage, so give a folder")
        running = start(options)
        failed = command.carried_out(running)
        plan = running.plan.study
        written = report.Report(study=plan, storage=options.storage, offline=options.offline)
        content, paths = report.written(written)
        for cell in failed:
            warnings.warn(f"failed: {cell}", stacklevel=2)
        return StudyResult(
            running.job.tracking_uri,
            plan,
            content.answer,
            pd.DataFrame([row.record for row in content.rows]),
            paths[0],
            tuple(failed),
            tuple(content.missing),
        )
