"""One run: how it learns, where its time goes, and what went wrong."""

from __future__ import annotations

from house import STUDY, TUNING, Query, choice, curves, number, page, row

OF = 'run="$run"'
RATE = "[$__rate_interval]"
RUNS = 'label_values(ray_miseg_run_progress_timestamp_seconds{study=~"$study",tuning=~"$tuning"}, run)'


def dashboard() -> object:
    """The page."""
    chosen = choice("run", "Run", RUNS, several=False)
    built = page("miseg-run", "miseg: one run", __doc__, [STUDY, TUNING, chosen], since="now-1h")
    for panel in _now():
        built = built.with_panel(panel)
    for title, panels in (("Learning", _learning()), ("Time", _time()), ("Memory, tracking, faults", _rest())):
        built = built.with_row(row(title))
        for panel in panels:
            built = built.with_panel(panel)
    return built


def _now() -> list[object]:
    progress = f"max(ray_miseg_run_progress_ratio{{{OF}}})"
    left = f"(1 - {progress}) / (max(deriv(ray_miseg_run_progress_ratio{{{OF}}}[10m])) > 0)"
    return [
        number("Steps made", "Share of the experiment's steps.", "percentunit", Query(progress)),
        number("Time left", "As fast as in the last ten minutes, validations and all.", "s", Query(left)),
        number(
            "Mean IoU",
            "Of the last validation.",
            "none",
            Query(f'max(ray_miseg_validation_mean_iou_ratio{{{OF},split="val"}})'),
            decimals=4,
        ),
        number(
            "Images a second",
            "Trained on, by all workers.",
            "short",
            Query(f"sum(rate(ray_miseg_training_images_total{{{OF}}}{RATE}))"),
        ),
        number(
            "Waits for data",
            "Share of the training's time, validations aside, over five minutes.",
            "percentunit",
            Query(f"max(run:miseg_data_wait:ratio_rate5m{{{OF}}})"),
            levels=((None, "green"), (0.15, "orange"), (0.3, "red")),
        ),
        number(
            "Without progress",
            "Since its last losses or validation; nothing where it does not train.",
            "s",
            Query(f"max(run:miseg_idle_seconds{{{OF}}})"),
            levels=((None, "green"), (300, "orange"), (900, "red")),
        ),
    ]


def _learning() -> list[object]:
    val = f'{OF},split="val"'
    return [
        curves(
            "Training loss",
            "Of the last step that was read; every tenth or so. A negative loss of RMI is normal.",
            "none",
            Query(f"max(ray_miseg_training_loss{{{OF}}})", "loss"),
            low=None,
        ),
        curves(
            "Validation",
            "Mean IoU and pixel accuracy over the whole split.",
            "none",
            Query(f"max(ray_miseg_validation_mean_iou_ratio{{{val}}})", "mean IoU"),
            Query(f"max(ray_miseg_validation_pixel_accuracy_ratio{{{val}}})", "pixel accuracy"),
            high=1,
        ),
        curves(
            "Learning rate",
            "Of the first parameter group.",
            "none",
            Query(f"max(ray_miseg_learning_rate{{{OF}}})", "learning rate"),
        ),
        curves(
            "Objective on held-out images",
            "Of methods that learn without labels; it selects their checkpoints.",
            "none",
            Query(f"max(ray_miseg_validation_objective{{{val}}})", "objective"),
            low=None,
        ),
    ]


def _time() -> list[object]:
    spent = f"sum by (part) (rate(ray_miseg_training_seconds_total{{{OF}}}{RATE}))"
    steps = f"scalar(sum(rate(ray_miseg_training_steps_total{{{OF}}}{RATE})))"
    written = f"sum(rate(ray_miseg_checkpoints_total{{{OF}}}[10m]))"
    return [
        curves(
            "Time of a step, by part",
            "Data: waiting for a batch. Compute: until the losses are read from the device. Record: writing them down. "
            "Validation is spread over the steps since the last one.",
            "s",
            Query(f"{spent} / {steps}", "{{part}}"),
            stacked=True,
        ),
        curves(
            "Images a second",
            "Trained on, by all workers.",
            "short",
            Query(f"sum(rate(ray_miseg_training_images_total{{{OF}}}{RATE}))", "images"),
        ),
        curves(
            "Time to write a checkpoint",
            "Beside the training, which waits only where the one before is not written yet.",
            "s",
            Query(f"sum(rate(ray_miseg_checkpoint_seconds_total{{{OF}}}[10m])) / ({written} > 0)", "checkpoint"),
        ),
        curves(
            "Share of the time, by part",
            "Of the training's wall time.",
            "percentunit",
            Query(f"{spent} / scalar(sum({spent}))", "{{part}}"),
            stacked=True,
            high=1,
        ),
    ]


def _rest() -> list[object]:
    return [
        curves(
            "GPU memory",
            "What PyTorch holds of the first worker's GPU.",
            "bytes",
            Query(f"max by (kind) (ray_miseg_gpu_memory_bytes{{{OF}}})", "{{kind}}"),
            width=8,
        ),
        curves(
            "MLflow behind",
            "Age of the oldest entry that MLflow does not have.",
            "s",
            Query(f"max(run:miseg_tracking_lag_seconds{{{OF}}})", "lag"),
            width=4,
            levels=((300, "red"),),
        ),
        curves(
            "Waiting for MLflow",
            "What its journal holds that MLflow does not have.",
            "bytes",
            Query(f"max(ray_miseg_tracking_backlog_bytes{{{OF}}})", "backlog"),
            width=4,
        ),
        curves(
            "Faults",
            "So far, by kind; times that MLflow was asked in vain.",
            "short",
            Query(f"sum by (kind) (ray_miseg_faults_total{{{OF}}})", "{{kind}}"),
            Query(f"sum(ray_miseg_tracking_failures_total{{{OF}}})", "MLflow asked in vain"),
            width=8,
        ),
    ]
