"""What the dashboards and rules ask Prometheus, and what Grafana would put in for its variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.support import ROOT

PAGES = {path.stem: path for path in sorted((ROOT / "dashboards/grafana").glob("*.json"))}
RULES = ROOT / "dashboards/prometheus/rules.yml"

OF_GRAFANA = {"__rate_interval": "1m", "__interval": "15s", "__range": "10m", "__range_s": "600"}
"""What Grafana makes of its own variables over ten minutes, with a scrape every 15 s."""


@dataclass(frozen=True)
class Asked:
    """One query of one panel, as the dashboard has it."""

    page: str
    panel: str
    letter: str
    expr: str

    def filled(self, values: Mapping[str, str]) -> str:
        """With the values of the page's variables, and Grafana's own."""
        known = OF_GRAFANA | values
        return re.sub(r"\$(\w+)|\$\{(\w+)\}", lambda match: known[match[1] or match[2]], self.expr)


def page(name: str) -> dict[str, Any]:
    """A dashboard."""
    return json.loads(PAGES[name].read_text())


def asked() -> Iterator[Asked]:
    """Every query of every panel."""
    for name in PAGES:
        for panel in page(name)["panels"]:
            for target in panel.get("targets", []):
                yield Asked(name, panel["title"], target["refId"], target["expr"])


def defaults(name: str) -> dict[str, str]:
    """What a page's variables are before anybody chooses: everything, or what stands in the field."""
    variables = page(name)["templating"]["list"]
    return {v["name"]: v["query"] if v["type"] == "textbox" else ".*" for v in variables}


def rules() -> list[dict[str, Any]]:
    """Every rule, in their order."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
