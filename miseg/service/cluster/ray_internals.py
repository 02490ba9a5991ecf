"""Ray's private names that miseg uses, all of them, because Ray has no public one for what they do.

`from miseg.service.cluster.ray_internals import GcsClient` imports that one name's module and no other. pyproject.toml
holds Ray below the release after the one that these were tried on; tests/service/cluster/test_ray_internals.py names
those that a newer Ray lacks, with the mend that stands beside each here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Internal:
    """A private name of Ray.

    Attributes:
        module: where Ray has it.
        attributes: what miseg takes of that module; () for the module itself.
        used: attributes of it that miseg calls or sets.
        mend: what to do where a newer Ray lacks it.
    """

    module: str
    attributes: tuple[str, ...]
    used: tuple[str, ...]
    mend: str


INTERNALS = {
    "ray_constants": Internal(
        "ray._private.ray_constants",
        (),
        ("ENABLE_RAY_CLUSTER", "ENABLE_RAY_CLUSTERS_ENV_VAR"),
        "Keeps a Ray of this machine on the loopback. Find what decides the address in ray.init, or leave it out: "
        "Ray then answers on all addresses, and tests/service/cluster/test_loopback.py fails.",
    ),
    "global_state": Internal(
        "ray._private.state",
        ("state",),
        ("_connect_and_get_accessor", "get_draining_nodes", "get_max_resources_from_cluster_config"),
        "Says which nodes drain, how far a cluster may grow and which placement groups are held. Look for the three in "
        "ray.util.state; a cluster that stands still and a machine alone work without them.",
    ),
    "PlacementGroupTableData": Internal(
        "ray.core.generated.gcs_pb2",
        ("PlacementGroupTableData",),
        ("FromString", "REMOVED"),
        "Reads a placement group's record, to free one whose controller died. Without it the next trial may wait for "
        "CPUs that nobody uses.",
    ),
    "GcsNodeInfo": Internal(
        "ray.core.generated.gcs_pb2",
        ("GcsNodeInfo",),
        ("ALIVE",),
        "Tells a live node from a dead one for the watch over spot nodes; ray.util.state.list_nodes says it, too.",
    ),
    "ClusterConfig": Internal(
        "ray.core.generated.autoscaler_pb2",
        ("ClusterConfig",),
        ("SerializeToString",),
        "Announces how far a cluster may grow. Try whether the newer autoscaler announces it itself, and delete it.",
    ),
    "DrainNodeReason": Internal(
        "ray.core.generated.autoscaler_pb2",
        ("DrainNodeReason",),
        ("DRAIN_NODE_REASON_PREEMPTION",),
        "Drains a node. See what Ray's own `ray drain-node` calls.",
    ),
    "GcsClient": Internal(
        "ray._raylet",
        ("GcsClient",),
        (),
        "Asks Ray's control store without joining the cluster. See what `ray drain-node` and `ray status` do.",
    ),
    # GcsClient hands what it is asked to this one.
    "InnerGcsClient": Internal(
        "ray._raylet",
        ("InnerGcsClient",),
        ("drain_node", "drain_nodes", "get_all_node_info", "internal_kv_put"),
        "As for GcsClient.",
    ),
    "GCS_AUTOSCALER_CLUSTER_CONFIG_KEY": Internal(
        "ray._raylet", ("GCS_AUTOSCALER_CLUSTER_CONFIG_KEY",), (), "As for ClusterConfig."
    ),
    "GCS_AUTOSCALER_STATE_NAMESPACE": Internal(
        "ray._raylet", ("GCS_AUTOSCALER_STATE_NAMESPACE",), (), "As for ClusterConfig."
    ),
    "kuberay_node_provider": Internal(
        "ray.autoscaler._private.kuberay.node_provider",
        (),
        ("KubernetesHttpApiClient",),
        "Patches a RayCluster with the pod's own rights. Any client of Kubernetes' API does that.",
    ),
    "ExecutionCallback": Internal(
        "ray.data._internal.execution.execution_callback",
        ("ExecutionCallback",),
        ("on_execution_step",),
        "Rests Ray Data's executor between its turns. Measure a step without it: the training thread may be slowed.",
    ),
    "get_or_create_autoscaling_coordinator": Internal(
        "ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator",
        ("get_or_create_autoscaling_coordinator",),
        (),
        "Makes an actor of Ray Data on the head. Without it an autoscaled cluster may keep its last worker for ever.",
    ),
    "get_or_create_stats_actor": Internal(
        "ray.data._internal.stats",
        ("get_or_create_stats_actor",),
        (),
        "As for get_or_create_autoscaling_coordinator.",
    ),
    "worker_module": Internal(
        "ray._private.worker",
        (),
        ("print_to_stdstream",),
        "Prints what Ray's own processes say of themselves. Without it such lines stand among miseg's.",
    ),
    "global_worker_stdstream_dispatcher": Internal(
        "ray._private.ray_logging",
        ("global_worker_stdstream_dispatcher",),
        ("handlers", "add_handler", "remove_handler"),
        "Hands the lines of workers to the driver. Without it Ray prints all of them, its own among miseg's.",
    ),
    "filter_autoscaler_events": Internal(
        "ray._private.worker",
        ("filter_autoscaler_events",),
        (),
        "Tells what the autoscaler does from what it writes of the cluster's state. Without it leave both out.",
    ),
    "internal_kv": Internal(
        "ray.experimental.internal_kv",
        (),
        ("_internal_kv_del", "_internal_kv_exists", "_internal_kv_get", "_internal_kv_list", "_internal_kv_put"),
        "Brings Ctrl-C from the driver to the trainings, and back which step they kept. A named actor can do that.",
    ),
    "serve_replica": Internal(
        "ray.serve._private.replica",
        (),
        ("add_port_to_grpc_server",),
        "Has a replica listen on the loopback alone. What it opens takes pickles from whoever reaches it: do not serve "
        "the labelling page on a newer Ray before its port is closed in another way.",
    ),
}

LOGGERS_OF_ITSELF = (
    "ray.widgets.util",
    "ray._private.authentication.authentication_token_setup",
    "ray.tune.utils.util",
)
"""Loggers of Ray whose lines tell a user nothing of a job. Where a newer Ray has others, their lines are seen again."""


def __getattr__(name: str) -> Any:
    if name not in INTERNALS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    internal = INTERNALS[name]
    value = import_module(internal.module)
    for attribute in internal.attributes:
        value = getattr(value, attribute)
    return value


def trials_of(results: Any) -> list[Any]:
    """The trials of a `ray.tune.ResultGrid`, those without a report among them, in the order of their last reports.

    Where a newer Ray has no `_experiment_analysis`: a `Result` needs the trial's config and its number.
    """
    return list(results._experiment_analysis.trials)
