"""Ray has every private name that miseg uses, and they are used in one place alone.

Where one fails on a newer Ray, its `mend` in miseg/service/cluster/ray_internals.py says what to do.
"""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from ray.tune import ResultGrid

from miseg.service.cluster import ray_internals
from miseg.service.cluster.ray_internals import INTERNALS
from tests.support import ROOT

PRIVATE = re.compile(r"\bray(\.\w+)*\._\w|\bfrom ray(\.\w+)*\._\w|\bray(\.\w+)*\.generated\b|\._experiment_analysis\b")


@pytest.mark.parametrize("name", INTERNALS)
def test_ray_has_the_name(name: str) -> None:
    internal = INTERNALS[name]
    try:
        value = getattr(ray_internals, name)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"this Ray has no {name} ({error}). {internal.mend}")
    missing = [attribute for attribute in internal.used if not hasattr(value, attribute)]
    assert not missing, f"this Ray's {name} has no {', '.join(missing)}. {internal.mend}"


def test_a_result_grid_has_its_trials() -> None:
    assert ray_internals.trials_of(ResultGrid(SimpleNamespace(trials=[]))) == []


def test_an_unknown_name_is_none_of_them() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Raylet'"):
        _ = ray_internals.Raylet


@pytest.mark.parametrize(
    ("line", "private"),
    [
        ("from ray._private import state", True),
        ("import ray.data._internal.stats", True),
        ("from ray.core.generated.gcs_pb2 import GcsNodeInfo", True),
        ("ray._private.state.state.nodes()", True),
        ("results._experiment_analysis.trials", True),
        ("from ray.tune import Tuner", False),
        ("from miseg.service.tuning.tune import _private", False),
    ],
)
def test_a_private_name_is_seen(line: str, private: bool) -> None:
    assert bool(PRIVATE.search(line)) == private


def test_no_other_file_uses_a_private_name_of_ray() -> None:
    own = ROOT / "miseg" / "service" / "cluster" / "ray_internals.py"
    files = [path for folder in ("miseg", "jobs") for path in (ROOT / folder).rglob("*.py") if path != own]
    lines = {
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PRIVATE.search(line)
    }
    assert not lines
