"""After a refused spot launch, ranks on-demand workers above spot ones for ten minutes.

python -m miseg.service.cloud.fallback 10.0.0.1:6379

Ray alone asks for the refused type again, for ever; why, is told above `available_node_types` in cluster.yaml.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from miseg.service.cloud import autoscaling

SPOT, ON_DEMAND, WINDOW_S = "gpu_spot", "gpu_on_demand", 600


@dataclass
class FallBack:
    """Watch for refused launches."""

    address: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="HOST:PORT")]
    """Ray's control store, host:port."""
    config: str = autoscaling.CONFIG
    """The autoscaler's configuration, whose priorities are changed."""
    every: float = 5.0
    """Seconds between two looks."""


def spot_refused(failed_launches: Iterable[Any], now: float) -> bool:
    """Whether a spot launch failed within the last ten minutes before `now` (s since 1970)."""
    return any(f.ray_node_type_name == SPOT and now - (f.failed_ts_s or 0) < WINDOW_S for f in failed_launches)


def rank(path: Path, on_demand_first: bool) -> None:
    """Only `priority` changes: lowering max_workers of spot instead would end the spot workers that run."""
    with autoscaling.changing(path) as config:
        types = config["available_node_types"]
        priority = types[SPOT]["priority"] + (1 if on_demand_first else -1)
        if types[ON_DEMAND]["priority"] != priority:
            types[ON_DEMAND]["priority"] = priority
            autoscaling.say("on-demand first" if on_demand_first else "spot first")


def main(watch: FallBack) -> None:
    """Watch for ever."""
    path = Path(watch.config).expanduser()
    while True:
        try:
            rank(path, spot_refused(autoscaling.status(watch.address).failed_launches, time.time()))
        except Exception as error:  # Ray restarts, or `ray up` is writing the file: look again in a moment
            autoscaling.say(repr(error))
        time.sleep(watch.every)


if __name__ == "__main__":
    main(tyro.cli(FallBack, description=__doc__))
