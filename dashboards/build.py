"""Write the Grafana dashboards, as Grafana reads them from a folder.

python dashboards/build.py                 # after a change of what is in this folder
python dashboards/build.py --out FOLDER
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import data_path
import run
import study
from grafana_foundation_sdk.cog.encoder import JSONEncoder

import cluster

HERE = Path(__file__).resolve().parent
PAGES = {"study": study, "run": run, "data-path": data_path, "cluster": cluster}


def written(page: object) -> str:
    """A dashboard as JSON; panels have ids in their order, so that links to them last."""
    found = json.loads(json.dumps(page.build(), cls=JSONEncoder))
    for number, panel in enumerate(found["panels"], 1):
        panel["id"] = number
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def main() -> None:
    """Write one file a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "grafana", help="folder (default: %(default)s)")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, module in PAGES.items():
        (out / f"{name}.json").write_text(written(module.dashboard()))


if __name__ == "__main__":
    main()
