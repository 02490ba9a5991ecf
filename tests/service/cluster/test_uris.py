"""Addresses at which no MLflow can be are told before anything is asked for them."""

from __future__ import annotations

import pytest

from miseg.service.cluster.uris import check_tracking


@pytest.mark.parametrize(
    "uri",
    ["", "http://127.0.0.1:5000", "https://mlflow.example/x", "sqlite:////tmp/mlflow.db", "databricks://profile",
     "postgresql+psycopg2://db/mlflow", "databricks"],
)  # fmt: skip
def test_what_mlflow_takes_passes(uri: str) -> None:
    check_tracking(uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("htp://foo", r"= htp://foo: no MLflow has such an address; did you mean http://foo\?"),
        ("./mlruns", r"= \./mlruns: a folder of runs, which MLflow keeps no longer; give the http address"),
        ("file:///home/x/mlruns", "a folder of runs"),
        ("mlflow.example:5000", "no MLflow has such an address; give the http address"),
        ("ftp://x?token=geheim", r"= ftp://x…: no MLflow has such an address"),
    ],
)
def test_what_it_does_not_take_is_told(uri: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(ValueError, match=f"^MLFLOW_TRACKING_URI.*{message}") as error:
        check_tracking(uri)
    assert "geheim" not in str(error.value) and "\n" not in str(error.value)


def test_folders_pass_where_mlflow_was_told_to_take_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    check_tracking("./mlruns")
