"""Data sets of a run, as MLflow shows them beside it and filters by them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from miseg.data.packed.dataset import PackedDataset
from miseg.file_names import last_name
from miseg.recipes.experiment import Experiment


def inputs(dataset: PackedDataset, name: str, splits: Mapping[str, str]) -> list[DatasetInput]:
    """Entries for `MlflowClient.log_inputs`: a split each, whose digest is the packed data's fingerprint.

    Args:
        dataset: the packed data.
        name: of the data set; an entry is called `<name>/<split>`, for MLflow keeps one of a name and a digest.
        splits: what each split was used for ("train", "validation", "test"), by its name.
    """
    stem = last_name(name)
    scheme = urlsplit(dataset.uri).scheme or "local"
    return [
        DatasetInput(
            Dataset(
                name=f"{stem}/{split}",
                digest=dataset.fingerprint,
                source_type="local" if scheme == "file" else scheme,
                source=json.dumps({"uri": dataset.uri, "split": split}),
                profile=json.dumps({"num_rows": dataset.size(split), "num_classes": len(dataset.info.classes)}),
            ),
            [InputTag(MLFLOW_DATASET_CONTEXT, context)],
        )
        for split, context in splits.items()
    ]


def of_training(dataset: PackedDataset, experiment: Experiment) -> list[DatasetInput]:
    """Entries of an experiment's training on packed data: its training split, and that of its validations."""
    validation = experiment.validation_split(dataset.splits)
    return inputs(dataset, experiment.data, {"train": "train"} | ({validation: "validation"} if validation else {}))
