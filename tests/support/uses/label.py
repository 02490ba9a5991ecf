"""The labelling page answers, and maps what is labelled; Ray Serve, which runs it for users, can be imported."""

import tempfile
from pathlib import Path

import numpy as np
import rasterio
import torch
from starlette.testclient import TestClient

from miseg.data.raster.scene_files import SceneOptions, open_scene
from miseg.interface import Task
from miseg.methods import build_method
from miseg.methods.configs import MutualInformationSimilarity
from miseg.networks.configs import PatchEncoder
from miseg.service.labelling import http, serve
from miseg.service.labelling.session import Session

assert callable(serve.start)
torch.manual_seed(0)
method = build_method(MutualInformationSimilarity(PatchEncoder(7, (6, 5), 4), hidden=8), Task(5)).eval()
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    layout = {"height": 24, "width": 24, "count": 3, "dtype": "uint8", "driver": "GTiff", "crs": "EPSG:32631"}
    with rasterio.open(folder / "photo.tif", "w", transform=rasterio.Affine(10, 0, 0, 0, -10, 0), **layout) as file:
        file.write(np.random.default_rng(0).integers(1, 255, (3, 24, 24)).astype(np.uint8))
    scene = open_scene(folder / "photo.tif", SceneOptions(bands=("red", "green", "blue")))
    session = Session(method, {"photo": scene}, folder / "labels")
    client = TestClient(http.application(session, http.PAGE, ["testserver"]), backend_options={})
    for path in ("/", "/page.js", "/annotate.css", "/vendor/ol/ol.js"):
        assert client.get(path).status_code == 200, path
    assert client.get("/nothing").status_code == 404
    assert client.get("/api/state").json()["drawings"] == []
    session.close()
