"""Parquet of strangers runs no code, also where Ray Data is there, which has a type for pickles."""

import io
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from miseg.data.checks import BadFileError
from miseg.data.folders import hf_parquet
from miseg.data.parquet import check_types

PICKLED = "ray.data.arrow_pickled_object"


class Exploit:
    """A pickle that leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def pickled():
    """Ray Data's type for pickles, which a process knows once it has imported Ray Data."""
    import ray.data  # noqa: F401
    from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType

    return ArrowPythonObjectType()


@pytest.fixture
def forged(tmp_path, pickled) -> Path:
    """A picture with its path as Hugging Face writes it, only that the path is a pickle."""
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    code = pa.array([pickle.dumps(Exploit(tmp_path / "escaped"))], pa.large_binary())
    cells = [pa.array([picture.getvalue()]), pa.ExtensionArray.from_storage(pickled, code)]
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"image": pa.StructArray.from_arrays(cells, ["bytes", "path"])}), path)
    return path


def test_the_forged_file_of_these_tests_would_run(forged, tmp_path):
    pq.read_table(forged)["image"].to_pylist()
    assert (tmp_path / "escaped").exists()


def test_no_code_in_a_parquet_file_is_run(forged, tmp_path):
    with pytest.raises(ValueError, match=rf"train\.parquet: column image is of the type {PICKLED}"):
        hf_parquet.read_rows(forged, ())
    with pytest.raises(BadFileError, match=f"column image is of the type {PICKLED}"):
        hf_parquet.ParquetCell(forged, "image", 0, 0, 0).read()
    assert not (tmp_path / "escaped").exists()


def test_such_a_type_is_found_within_others(pickled):
    for kind in (
        pickled,
        pa.list_(pickled),
        pa.large_list(pa.struct([("a", pa.int8()), ("b", pickled)])),
        pa.map_(pa.string(), pickled),
        pa.dictionary(pa.int8(), pa.struct([("x", pickled)])),
        pa.list_(pickled, 3),
        pa.sparse_union([pa.field("a", pa.int8()), pa.field("b", pickled)]),
    ):
        schema = pa.schema([("other", pickled), ("x", kind)])
        with pytest.raises(ValueError, match=f"column x is of the type {PICKLED}"):
            check_types(schema, "x")
    plain = pa.schema([("other", pickled), ("x", pa.list_(pa.struct([("b", pa.binary())]))), ("y", pa.uuid())])
    check_types(plain, "x", "y")
