"""The data path: whether decoding keeps up with training, and where it is held up."""

from __future__ import annotations

from house import STUDY, TUNING, Query, choice, curves, page, row

OF = 'study=~"$study",tuning=~"$tuning"'
DATA = 'data=~"$data"'
RATE = "[$__rate_interval]"


def dashboard() -> object:
    """The page."""
    chosen = choice("data", "Data set", "label_values(ray_miseg_decoded_images_total, data)")
    built = page("miseg-data", "miseg: the data path", __doc__, [STUDY, TUNING, chosen], since="now-1h")
    for title, panels in (("Trainings", _trainings()), ("Ray Data", _ray_data()), ("Nodes", _nodes())):
        built = built.with_row(row(title))
        for panel in panels:
            built = built.with_panel(panel)
    return built


def _trainings() -> list[object]:
    decoded = f"sum by (data) (rate(ray_miseg_decoded_images_total{{{DATA}}}{RATE}))"
    worked = f"sum by (data) (rate(ray_miseg_decoding_seconds_total{{{DATA}}}{RATE}))"
    return [
        curves(
            "Waiting for data",
            "Share of a run's time, validations aside, over five minutes. Above the line for ten minutes, an alert.",
            "percentunit",
            Query(f"max by (run) (run:miseg_data_wait:ratio_rate5m{{{OF}}})", "{{run}}"),
            high=1,
            levels=((0.3, "red"),),
        ),
        curves(
            "Images a second",
            "Decoded, for validations too, and trained on. A training's pipeline decodes some seconds ahead.",
            "short",
            Query(decoded, "decoded: {{data}}"),
            Query(
                f"sum by (data) (rate(ray_miseg_training_images_total{{{OF},{DATA}}}{RATE}))", "trained on: {{data}}"
            ),
        ),
        curves(
            "Time to decode an image",
            "Reading, decoding and augmenting, in one task. Images that a machine keeps decoded cost far less.",
            "s",
            Query(f"{worked} / ({decoded} > 0)", "{{data}}"),
        ),
        curves("Decoding tasks at work", "On average; each asks for half a CPU.", "short", Query(worked, "{{data}}")),
    ]


def _ray_data() -> list[object]:
    return [
        curves(
            "Tasks that run",
            "By operator of a pipeline.",
            "short",
            Query("sum by (operator) (ray_data_num_tasks_running)", "{{operator}}"),
            width=8,
        ),
        curves(
            "Finished blocks that wait for a trainer",
            "Many: the trainer is the slower. None: decoding is.",
            "bytes",
            Query("sum by (operator) (ray_data_obj_store_mem_internal_outqueue)", "{{operator}}"),
            width=8,
        ),
        curves(
            "Trainers that are held up",
            "Seconds in a second that iterators of pipelines let their trainers wait.",
            "percentunit",
            Query(f"sum(rate(ray_data_iter_total_blocked_seconds{RATE}))", "all pipelines"),
            width=8,
        ),
        curves(
            "Object store",
            "By place; what is spilled lies on disk, and reading it back is slow.",
            "bytes",
            Query("sum by (Location) (ray_object_store_memory)", "{{Location}}"),
            stacked=True,
        ),
        curves(
            "Spilled by pipelines",
            "By the pipelines at work, since they began.",
            "bytes",
            Query("sum(ray_data_spilled_bytes)", "all pipelines"),
        ),
    ]


def _nodes() -> list[object]:
    return [
        curves(
            "CPUs", "Share that is busy, by node.", "percent",
            Query("ray_node_cpu_utilization", "{{instance}}"), width=8, high=100,
        ),
        curves(
            "Read from disk", "By node.", "Bps", Query("ray_node_disk_io_read_speed", "{{instance}}"), width=8
        ),
        curves(
            "Received", "By node: shards from object storage, batches from other nodes.", "Bps",
            Query("ray_node_network_receive_speed", "{{instance}}"), width=8,
        ),
    ]  # fmt: skip
