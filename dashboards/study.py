"""A study at a glance: how far its tunings are, what they have found, and whether all is well."""

from __future__ import annotations

from house import MLFLOW, STUDY, TUNING, Query, curves, number, page, row, rows

OF = 'study=~"$study",tuning=~"$tuning"'
ENDED = 'state=~"done|stopped|failed"'
RATE = "[$__rate_interval]"


def dashboard() -> object:
    """The page."""
    built = page("miseg-study", "miseg: a study at a glance", __doc__, [STUDY, TUNING, MLFLOW])
    for panel in _now():
        built = built.with_panel(panel)
    built = built.with_row(row("Trials"))
    for panel in _trials():
        built = built.with_panel(panel)
    built = built.with_row(row("Trainings"))
    for panel in _trainings():
        built = built.with_panel(panel)
    return built


def _now() -> list[object]:
    ended = f"sum(ray_miseg_tuning_trials{{{OF},{ENDED}}}) / sum(ray_miseg_tuning_planned_trials{{{OF}}})"
    return [
        number("Trials ended", "Share of the planned trials of the phases at work.", "percentunit", Query(ended)),
        number(
            "Trainings at work",
            "Runs that train now.",
            "short",
            Query(f"sum(max by (run) (ray_miseg_run_active{{{OF}}}))"),
        ),
        number(
            "Images a second",
            "Of all trainings together.",
            "short",
            Query(f"sum(rate(ray_miseg_training_images_total{{{OF}}}{RATE}))"),
        ),
        number(
            "Best mean IoU",
            "That a trial has reported, on the validation split.",
            "none",
            Query(f"max(ray_miseg_tuning_best_mean_iou_ratio{{{OF}}})"),
            decimals=4,
        ),
        number(
            "Without progress",
            "Since a trial last started, reported or ended; of the tuning that waits longest.",
            "s",
            Query(f"max(tuning:miseg_idle_seconds{{{OF}}})"),
            levels=((None, "green"), (1800, "orange"), (3600, "red")),
        ),
        number(
            "Alerts",
            "That fire now: see the alerts page of Prometheus.",
            "short",
            Query('count(ALERTS{alertname=~"Miseg.*",alertstate="firing"}) or vector(0)'),
            levels=((None, "green"), (1, "red")),
        ),
    ]


def _trials() -> list[object]:
    planned = f"sum by (tuning, phase) (ray_miseg_tuning_planned_trials{{{OF}}})"
    ended = f"sum by (tuning, phase) (ray_miseg_tuning_trials{{{OF},{ENDED}}})"
    return [
        curves(
            "Trials by state",
            "Stopped: early, by ASHA.",
            "short",
            Query(f"sum by (state) (ray_miseg_tuning_trials{{{OF}}})", "{{state}}"),
            stacked=True,
        ),
        curves(
            "Time left",
            "Until the planned trials have ended, as fast as in the last hour.",
            "s",
            Query(f"({planned} - {ended}) / (deriv(({ended})[1h:15s]) > 0)", "{{tuning}} {{phase}}"),
        ),
        curves(
            "Best mean IoU so far",
            "The search proposes, the confirmation decides: compare rows of a table, not these.",
            "none",
            Query(f"max by (tuning, phase) (ray_miseg_tuning_best_mean_iou_ratio{{{OF}}})", "{{tuning}} {{phase}}"),
        ),
        curves(
            "Mean IoU of each run",
            "On the validation split, as of its last validation.",
            "none",
            Query(f'max by (run) (ray_miseg_validation_mean_iou_ratio{{{OF},split="val"}})', "{{run}}"),
        ),
    ]


def _trainings() -> list[object]:
    run = f"ray_miseg_run_active{{{OF}}}"
    columns = [
        ("Trains", "bool_yes_no", f"max by (run, run_id, method, data, tuning) ({run})"),
        ("Steps made", "percentunit", f"max by (run) (ray_miseg_run_progress_ratio{{{OF}}})"),
        ("Mean IoU", "none", f'max by (run) (ray_miseg_validation_mean_iou_ratio{{{OF},split="val"}})'),
        ("Loss", "none", f"max by (run) (ray_miseg_training_loss{{{OF}}})"),
        ("Images/s", "short", f"sum by (run) (rate(ray_miseg_training_images_total{{{OF}}}[2m]))"),
        ("Waits for data", "percentunit", f"max by (run) (run:miseg_data_wait:ratio_rate5m{{{OF}}})"),
        ("MLflow behind", "s", f"max by (run) (run:miseg_tracking_lag_seconds{{{OF}}})"),
    ]
    faults = f"sum by (kind) (ray_miseg_faults_total{{{OF}}})"
    return [
        curves(
            "Images a second",
            "Of each run.",
            "short",
            Query(f"sum by (run) (rate(ray_miseg_training_images_total{{{OF}}}{RATE}))", "{{run}}"),
        ),
        curves("Faults", "So far, by kind.", "short", Query(faults, "{{kind}}")),
        rows(
            "Runs",
            "Those that train. A click on a run opens it in MLflow.",
            "run",
            columns,
            link="${mlflow}/#/runs/${__data.fields.run_id}",
        ),
    ]
