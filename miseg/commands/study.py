"""Compare methods under equal budgets.

Each is tuned alike on validation, confirmed on fresh seeds, then tested once.

miseg study --plan --price-per-hour 2.5
miseg study --name first --data embedded camvid --methods ce bce rmi affinity mutual --trials 8
miseg study --name first --resume --data sentinel2-flanders --steps 2000 --labelled-pixels-per-class 10 50
miseg study --name first --resume --confirm-seeds 5
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from miseg.service.command.options import execute
from miseg.service.study.start import Options, start

if TYPE_CHECKING:
    from miseg.service.study.study import Study


def run(arguments: Options) -> int:
    """Plan, and unless only the plan is wanted, run; status 1 where a cell failed."""
    study = start(arguments)
    # Only now: they bring torch, Ray and MLflow along.
    from miseg.service.study import plan, record
    from miseg.service.study import study as running

    uri, name = study.job.tracking_uri, study.plan.study
    done, confirmed = record.done(uri, study.plan), record.rows_confirmed(uri, study.plan)
    todo = plan.text(study.plan, done, study.devices, confirmed)
    print(f"study {name}, to do:\n{todo}", flush=True)
    if arguments.plan:
        return 0
    failed = carried_out(study)
    print(f"\nStudy {name} at {uri}")
    for job, run_id in running.runs(study):
        print(f"look at it with: {job.look(run_id)}")
    print("\nnext, to paste:")
    print(f"- the answer, as a page:\n{study.job.command('report', '--study', name)}")
    if study.job.tracking_uri.startswith("sqlite"):
        print(f"- its runs in a browser:\n{study.job.ui_command}")
    return 1 if failed else 0


def carried_out(study: Study) -> list[str]:
    """Tune, confirm and test what is not done of a study; the cells that failed. Errors as of `study.run`."""
    # Only now: they bring torch, Ray and MLflow along.
    from miseg.service.study import record
    from miseg.service.study import study as running
    from miseg.service.terminal.going_on import goes_on_with
    from miseg.service.tracking import mlflow_runs
    from miseg.service.tracking.claims import claimed

    experiment_name = mlflow_runs.experiment_name(study.plan.data[0])
    named = goes_on_with("--resume", "--name", study.plan.study)
    with claimed(study.job, experiment_name, record.name_of(study.plan)), named:
        return running.run(study)


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(Options, run, __doc__)
