"""A tuning's own run that is taken up again is not ended by what an earlier time logged."""

from dataclasses import replace

import pandas as pd
from mlflow import MlflowClient

from miseg.service.journal.sender import sync
from miseg.service.tuning import record
from tests.support.tuning_store import tuning_of


def test_an_end_that_waited_does_not_end_a_tuning_that_goes_on(uri, small, tiny, tmp_path, monkeypatch):
    tuning = tuning_of(uri, small, tiny, tmp_path)
    parent = record.open_run(tuning)
    monkeypatch.setattr(record, "CLOSING_TIMEOUT", 0.0)
    away = replace(tuning, tracking_uri="http://127.0.0.1:1")
    monkeypatch.setattr(record.resuming, "concurrent", lambda *_: 1)
    monkeypatch.setattr(record.description, "finished", lambda *_: "its tables")
    monkeypatch.setattr(record, "summaries", lambda _: {})
    record.record(away, parent, pd.DataFrame(), pd.DataFrame(), None, [])
    assert record.open_run(tuning) == parent  # with --resume, on another machine
    sync(tmp_path / "journals", uri)
    assert MlflowClient(uri).get_run(parent).info.status == "RUNNING"
