"""Registration of a trained model in MLflow through its run's journal, so that it waits where MLflow is away."""

from __future__ import annotations

import json

from miseg.data.packed.dataset import PackedDataset
from miseg.service.journal.journal import CLOSING_TIMEOUT, Journal, journal_folder

CLOSING_TRIES = 3
"""Tries of registering a model at an MLflow that does not answer; then it waits."""


def register(storage: str, uri: str, run_id: str, name: str, data: str, metric: str) -> bool:
    """Register the best model of a run that ended; False where MLflow is away, and it waits in the run's journal.

    Args:
        storage: where the journals are.
        uri: the MLflow server or store.
        run_id: the run.
        name: see `registry.name_of`.
        data: the packed data set.
        metric: name in MLflow of what selected the model.
    """
    journal = Journal(journal_folder(storage), uri, run_id, storage)
    classes = json.dumps(list(PackedDataset.open(data).info.classes))
    journal.register(name, metric, {"miseg.classes": classes})
    return journal.close(CLOSING_TIMEOUT, CLOSING_TRIES)
