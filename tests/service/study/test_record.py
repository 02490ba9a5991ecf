"""A study read back from what MLflow keeps of it."""

from __future__ import annotations

from mlflow import MlflowClient

from miseg.service.study import record
from miseg.service.study.plan import StudyPlan


def test_of_two_evaluations_of_one_training_the_later_counts(uri: str) -> None:
    """As in the report: MLflow lists the latest first, and a dictionary kept the last of them."""
    client = MlflowClient(uri)
    experiment = client.create_experiment("miseg/evaluations")
    tags = {"miseg.kind": "evaluation", "miseg.study": "twice", "mlflow.parentRunId": "0" * 32}
    runs = [client.create_run(experiment, start_time=start, tags=tags).info.run_id for start in (2000, 1000, 3000)]
    for run_id in runs[:2]:
        client.set_terminated(run_id, "FINISHED")
    ended = record.evaluations(uri, StudyPlan("twice", "now", ()))
    assert [run.info.run_id for run in ended.values()] == [runs[0]], "of those that ended"
