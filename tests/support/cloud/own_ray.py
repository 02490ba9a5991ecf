"""What lives in the Ray that this process is connected to; there may be others on the machine."""

from __future__ import annotations

import ray
from ray.util.state import list_actors


def actors() -> dict[str, str]:
    """The classes of the actors that live, by their ids, but for those that Ray Data keeps for all pipelines."""
    address = ray.get_runtime_context().gcs_address
    alive = list_actors(address, filters=[("state", "=", "ALIVE")], limit=1000, timeout=60)
    return {actor.actor_id: actor.class_name for actor in alive if not actor.class_name.startswith("_")}
