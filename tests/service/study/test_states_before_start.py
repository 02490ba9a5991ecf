"""A study that goes on with states of tunings: those of another key are refused before a Ray is started."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import ray

from miseg.commands.study import Options
from miseg.recipes.study_growth import Asked, grown
from miseg.service import signing
from miseg.service.study import record, start
from miseg.service.study.plan import StudyPlan
from miseg.service.tuning import state


@pytest.fixture
def plan(monkeypatch) -> StudyPlan:
    """A study of two cells, of which none is done; a Ray must not start."""

    def started(*args: object, **kwargs: object) -> None:
        raise AssertionError("a Ray is started")

    monkeypatch.setattr(ray, "init", started)
    tables = grown((), Asked(data=("embedded",), methods=("ce", "rmi")), {"trials": 2, "confirm_seeds": 1})
    found = StudyPlan("first", "2026-12-01T12:00:00+00:00", tables)
    monkeypatch.setattr(record, "find", lambda uri, name: found)
    return found


def keep(storage: Path, name: str) -> Path:
    """A state of a tuning's search, signed with the key that is set."""
    folder = storage / "tunings" / f"{name}-search"
    folder.mkdir(parents=True)
    (folder / state.TUNER).write_bytes(b"pickle")
    state.keep(str(folder), [folder / state.TUNER])
    (kept,) = folder.glob("state-*.zip")
    return kept


def resumed(storage: Path, uri: str, monkeypatch, **options: Any) -> StudyPlan:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return start._known(Options(storage=str(storage), resume=True, name="first", **options))


def test_a_state_that_another_key_signed_is_refused_at_the_start(plan, uri, tmp_path, monkeypatch):
    _, _, last = plan.cells[-1]
    with monkeypatch.context() as other:
        other.setenv(signing.KEY, "x" * 40)
        kept = keep(tmp_path, plan.tuning_name(last))
    with pytest.raises(ValueError, match=rf"{kept.name} is signed with another key.*, and --resume would run"):
        resumed(tmp_path, uri, monkeypatch)
    assert resumed(tmp_path, uri, monkeypatch, trust_state=True).tables == plan.tables
    # What is done is not gone on with: its state is not run.
    monkeypatch.setattr(record, "done", lambda uri, plan: {last: 1})
    assert resumed(tmp_path, uri, monkeypatch).tables == plan.tables
    # Unless it grows.
    with pytest.raises(ValueError, match=rf"{kept.name} is signed with another key"):
        resumed(tmp_path, uri, monkeypatch, confirm_seeds=2)
    assert resumed(tmp_path, uri, monkeypatch, confirm_seeds=2, data=("camvid",)).tables == plan.tables


def test_a_state_without_a_signature_is_refused_and_one_s_own_is_taken(plan, uri, tmp_path, monkeypatch):
    _, _, first = plan.cells[0]
    kept = keep(tmp_path, plan.tuning_name(first))
    assert resumed(tmp_path, uri, monkeypatch).tables == plan.tables
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(state.TUNER, b"pickle")
    kept.write_bytes(content.getvalue())
    with pytest.raises(ValueError, match="has no signature, and --resume would run"):
        resumed(tmp_path, uri, monkeypatch)
