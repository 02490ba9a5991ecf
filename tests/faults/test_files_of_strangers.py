"""No file that a user may have been sent runs code or makes this program read another file of the machine."""

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import SCHEMA, SIDECAR, pack
from miseg.data.raster.grid import Grid
from miseg.data.raster.rasters import open_raster
from miseg.data.series.outlines import read_outlines
from miseg.data.sources.registry import Embedded
from miseg.networks.configs import DeepLab
from miseg.service.checkpoints import checkpoint
from tests.faults.readers import _checkpoint, _loop, _seal_checkpoint
from tests.support.scene_layouts import raster, reflectances

pytestmark = pytest.mark.faults


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.fixture
def bomb(tmp_path):
    """It does go off where somebody unpickles it."""
    Bomb(tmp_path / "proof")
    pickle.loads(pickle.dumps(Bomb(tmp_path / "proof")))
    assert (tmp_path / "proof").exists()
    yield Bomb(tmp_path / "marker")
    assert not (tmp_path / "marker").exists()


@pytest.fixture
def packed(tmp_path) -> Path:
    source = Embedded({"train": 1, "val": 1, "test": 0}, height=16, width=16)
    return pack(source, tmp_path / "packed", ("train",)).path


@pytest.mark.parametrize("suffix", ["pth", "bin", "safetensors"])
def test_a_file_of_weights_runs_no_code(bomb, tmp_path, suffix):
    from miseg.networks.deeplab import DeepLab as Network

    file = tmp_path / f"weights.{suffix}"
    torch.save({"state_dict": bomb}, file)
    with pytest.raises(ValueError, match="holds no weights that can be read") as refused:
        Network(DeepLab(encoder="resnet18d", weights=str(file)), 3, 2)
    assert suffix == "safetensors" or "save the state_dict alone" in str(refused.value)
    assert "trust" not in str(refused.value) and "\x1b" not in str(refused.value)


@pytest.mark.parametrize("name", ["training.pt", "weights.safetensors"])
def test_a_checkpoint_runs_no_code(bomb, tmp_path, name):
    _checkpoint(tmp_path)
    torch.save(bomb, tmp_path / "checkpoint" / name)
    _seal_checkpoint(tmp_path)
    with pytest.raises(checkpoint.CheckpointError, match=f"{name} cannot be read"):
        checkpoint.load(tmp_path / "checkpoint", _loop())


def test_a_shard_runs_no_code(bomb, packed):
    """Ray Data has a type of column that is unpickled when it is read; its types are known where it is imported."""
    import pyarrow as pa
    from ray.data._internal.object_extensions.arrow import ArrowPythonObjectArray

    shard = packed / "train-00000.parquet"
    (row,) = pq.read_table(shard).to_pylist()
    table = pa.Table.from_pylist([row], SCHEMA)
    odd = table.set_column(0, "id", ArrowPythonObjectArray.from_objects([bomb]))
    pq.write_table(odd, shard, row_group_size=1)
    with pytest.raises(ValueError, match="its footer's SHA-256 is not the sidecar's"):
        PackedDataset.open(packed).read("train", 0)
    # Whoever forges a shard can forge its checksum.
    sidecar = json.loads((packed / SIDECAR).read_text())
    del sidecar["splits"]["train"][0]["footer_sha256"]
    (packed / SIDECAR).write_text(json.dumps(sidecar))
    with pytest.raises(ValueError, match="its columns are not those of a packed data set"):
        PackedDataset.open(packed).read("train", 0)


def test_links_lead_nowhere(packed, tmp_path):
    shard = packed / "train-00000.parquet"
    shard.rename(tmp_path / "elsewhere.parquet")
    shard.symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(ValueError, match="is a link"):
        PackedDataset.open(packed)
    _checkpoint(tmp_path)
    weights = tmp_path / "checkpoint" / "weights.safetensors"
    weights.rename(tmp_path / "elsewhere.safetensors")
    weights.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(checkpoint.CheckpointError, match="is a link"):
        checkpoint.open_method(tmp_path / "checkpoint")


@pytest.mark.parametrize("name", ["../elsewhere.parquet", "/etc/passwd", "a\x00b", "a" * 5000, "..", ""])
def test_a_sidecar_names_no_file_elsewhere(packed, name):
    sidecar = json.loads((packed / SIDECAR).read_text())
    sidecar["splits"]["train"][0]["file"] = name
    (packed / SIDECAR).write_text(json.dumps(sidecar))
    with pytest.raises(ValueError, match=r"dataset\.json|missing"):
        PackedDataset.open(packed)


def test_outlines_that_stand_for_other_files_are_no_vector_file(tmp_path):
    """GDAL tells formats by content: a virtual layer called .geojson reads what it names."""
    import pyogrio

    (tmp_path / "secret.csv").write_text('WKT,class\n"POLYGON ((0 0, 9 0, 9 9, 0 0))",secret\n')
    file = tmp_path / "labels.geojson"
    file.write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="secret"><SrcDataSource>{tmp_path}/secret.csv</SrcDataSource>'
        "</OGRVRTLayer></OGRVRTDataSource>"
    )
    assert pyogrio.raw.read(file)[3][1].tolist() == ["secret"]
    with pytest.raises(ValueError, match=r"labels\.geojson: no vector file that can be read \(no GeoPackage"):
        read_outlines(file, Grid(9, 9, "EPSG:32631", (1.0, 0.0, 0.0, 0.0, -1.0, 9.0)), None)


def test_a_scene_that_stands_for_other_files_is_no_raster(tmp_path):
    """GDAL tells formats by content: a virtual raster called .tif reads what it names."""
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(tmp_path / "secret.png")
    (tmp_path / "2019-07-20.tif").write_text(
        '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{tmp_path}/secret.png</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(ValueError, match="no raster"), open_raster(tmp_path / "2019-07-20.tif"):
        pass
    raster(tmp_path / "own.tif", reflectances(0))
    for file in ("own.tif", "secret.png"):
        with open_raster(tmp_path / file) as source:
            assert source.read(1).any()
