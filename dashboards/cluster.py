"""The cluster and its cost: which nodes there are, what they do, and what they cost by your prices."""

from __future__ import annotations

from house import Query, curves, entry, number, page, row

NODE_TYPES = {"head": "Head", "gpu_spot": "Spot GPU worker", "gpu_on_demand": "On-demand GPU worker"}
"""Node types of cluster.yaml; Kubernetes has no underscores, so in cluster/kuberay.yaml they have dashes."""

NODES = {
    # The head reports itself; the autoscaler knows it under its type only where it started it.
    "head": 'count(ray_node_cpu_count{RayNodeType="head"})',
    "gpu_spot": 'sum(autoscaler_active_nodes{NodeType=~"gpu[-_]spot"})',
    "gpu_on_demand": 'sum(autoscaler_active_nodes{NodeType=~"gpu[-_]on[-_]demand"})',
}
PRICE = " + ".join(f"$price_{name} * ({counted} or vector(0))" for name, counted in NODES.items())
"""Of all nodes, an hour."""

TRAINED = "sum(rate(ray_miseg_training_images_total[$__rate_interval]))"


def dashboard() -> object:
    """The page."""
    prices = [
        entry(f"price_{name}", f"{kind}, price an hour", "1", "From your cloud's price list. With 1, node-hours count.")
        for name, kind in NODE_TYPES.items()
    ]
    built = page("miseg-cluster", "miseg: the cluster and its cost", __doc__, prices, since="now-24h")
    for panel in _now():
        built = built.with_panel(panel)
    for title, panels in (("Nodes and cost", _cost()), ("What they do", _work()), ("What they hold", _memory())):
        built = built.with_row(row(title))
        for panel in panels:
            built = built.with_panel(panel)
    return built


def _now() -> list[object]:
    return [
        number("Nodes", "That run Ray.", "short", Query("count(ray_node_cpu_count)")),
        number("Nodes that start", "Asked for, and not there yet.", "short", Query("sum(autoscaler_pending_nodes)")),
        number("An hour costs", "All nodes that are there now, by the prices above.", "none", Query(PRICE), decimals=2),
        number(
            "Spent in the shown time",
            "Nodes by minutes by price; minutes without a Prometheus do not count.",
            "none",
            Query(f"sum_over_time(({PRICE})[$__range:1m]) / 60"),
            decimals=2,
        ),
        number(
            "A million images cost",
            "To train on, as fast as now.",
            "none",
            Query(f"({PRICE}) / 3600 / ({TRAINED} > 0) * 1e6"),
            decimals=2,
        ),
        number(
            "GPUs in use",
            "Share that training workers hold.",
            "percentunit",
            Query('sum(ray_resources{Name="GPU",State="USED"}) / sum(ray_resources{Name="GPU"})'),
        ),
    ]


def _cost() -> list[object]:
    return [
        curves(
            "Nodes by type",
            "That run Ray.",
            "short",
            *(Query(counted, NODE_TYPES[name]) for name, counted in NODES.items()),
            width=6,
            stacked=True,
        ),
        curves(
            "Cost an hour",
            "By type of node.",
            "none",
            *(Query(f"$price_{name} * {counted}", NODE_TYPES[name]) for name, counted in NODES.items()),
            width=6,
            stacked=True,
        ),
        curves(
            "Nodes that start or fail",
            "Spot machines that are refused show as on-demand ones that start.",
            "short",
            Query("sum by (NodeType) (autoscaler_pending_nodes)", "starting: {{NodeType}}"),
            Query("sum by (NodeType) (autoscaler_recently_failed_nodes)", "ending: {{NodeType}}"),
            width=6,
        ),
        curves(
            "Budget",
            "What the budget guard has counted since it began, by the prices that it was given.",
            "none",
            Query("max(miseg_budget_spent)", "spent"),
            Query("max(miseg_budget_limit)", "budget"),
            width=6,
        ),
    ]


def _work() -> list[object]:
    return [
        curves(
            "Trainings at work and images a second",
            "Of the whole cluster.",
            "short",
            Query("sum(max by (run) (ray_miseg_run_active))", "trainings"),
            Query(TRAINED, "images a second"),
            width=8,
        ),
        curves(
            "CPUs",
            "Share that is busy, by node.",
            "percent",
            Query("max by (instance, RayNodeType) (ray_node_cpu_utilization)", "{{RayNodeType}} {{instance}}"),
            width=8,
            high=100,
        ),
        curves(
            "GPUs",
            "Share of the time in which a GPU computes.",
            "percent",
            Query("max by (instance, GpuIndex) (ray_node_gpus_utilization)", "{{instance}} GPU {{GpuIndex}}"),
            width=8,
            high=100,
        ),
        curves(
            "Tasks by state",
            "Decoding tasks and the like.",
            "short",
            Query('clamp_min(sum by (State) (ray_tasks{State!~"FINISHED|FAILED"}), 0)', "{{State}}"),
            stacked=True,
        ),
        curves(
            "Actors by state",
            "Trials and training workers are actors.",
            "short",
            Query('sum by (State) (ray_actors{Source="gcs",State!="DEAD"})', "{{State}}"),
            stacked=True,
        ),
    ]


def _memory() -> list[object]:
    return [
        curves(
            "Memory",
            "Share in use, by node. Ray ends processes above 95 %.",
            "percentunit",
            Query("max by (instance) (ray_node_mem_used / ray_node_mem_total)", "{{instance}}"),
            width=8,
            high=1,
            levels=((0.95, "red"),),
        ),
        curves(
            "GPU memory",
            "Share in use.",
            "percentunit",
            Query(
                "max by (instance, GpuIndex) (ray_node_gram_used / (ray_node_gram_used + ray_node_gram_available))",
                "{{instance}} GPU {{GpuIndex}}",
            ),
            width=8,
            high=1,
        ),
        curves(
            "Disk",
            "Share in use, by node: decoded images, spilled objects, journals.",
            "percentunit",
            Query(
                "max by (instance) (ray_node_disk_usage / (ray_node_disk_usage + ray_node_disk_free))", "{{instance}}"
            ),
            width=8,
            high=1,
        ),
    ]
