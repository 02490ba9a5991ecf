"""Own images of four bands of 16 bits, from files to maps: packed, trained, evaluated, kept and mapped."""

import numpy as np
import pytest
import torch
from PIL import Image

from miseg.data.configs import Augmentation
from miseg.data.folders.description import Description
from miseg.data.folders.encoding import MaskOptions
from miseg.data.folders.names.layout import Layout
from miseg.data.folders.source import open_folders
from miseg.data.loading.batches import evaluation_batches, training_batches
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.raster.scene_files import SceneOptions
from miseg.evaluation.confusion import ConfusionMatrix
from miseg.methods.configs import CrossEntropy
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment, Optimiser
from miseg.service.checkpoints import checkpoint
from miseg.service.mapping.predictor import MapPredictor
from miseg.service.training.loop import Loop
from miseg.service.training.recorder import data_description
from miseg.service.training.streams import Converter, task_of
from miseg.serving import Predictor
from tests.support.scene_layouts import place, raster

SIZE = (32, 40)


@pytest.fixture(scope="module", params=["uint16", "float32"])
def dataset(request, tmp_path_factory):
    """Drone tiles: four bands, masks of RGB colours, a corner without data; the near infrared tells plants."""
    root, kind = tmp_path_factory.mktemp(request.param), request.param
    for number in range(6):
        generator = np.random.default_rng(number)
        plants = np.kron(generator.random((4, 5)) < 0.5, np.ones((8, 8))).astype(bool)
        image = generator.integers(200, 400, (*SIZE, 4)).astype(np.float64)
        image[..., 3] += 1500 * plants
        image[:6, :6] = 0
        image = (image if kind == "uint16" else image / 1000).astype(kind)
        (root / "tiles").mkdir(exist_ok=True)
        raster(root / "tiles" / f"{number}.tif", image, place(), nodata=0)
        colours = np.where(plants[..., None], np.uint8([0, 255, 0]), np.uint8([120, 60, 0])).astype(np.uint8)
        (root / "labels").mkdir(exist_ok=True)
        Image.fromarray(colours).save(root / "labels" / f"{number}.png")
    (root / "colours.csv").write_text("name,r,g,b\nsoil,120,60,0\nplants,0,255,0\n")
    layout = Layout(images=("tiles/*.tif",), masks=("labels/*.png",))
    options = MaskOptions(colours=root / "colours.csv")
    source = open_folders(Description("drone", layout, options, split=(0.5, 0.5)), root)
    packing = pack(source, root / "packed", source.available())
    assert not packing.rejected
    return root, PackedDataset.open(packing.path)


@pytest.mark.slow
def test_tiles_of_four_bands_train_are_evaluated_and_mapped(dataset, tmp_path):
    root, data = dataset
    assert (data.info.channels, data.info.nodata) == (4, 0) and data.info.full_scale > 1
    augmentation = Augmentation(scale=(0.8, 1.25), crop=(32, 32))
    experiment = Experiment(
        CrossEntropy(UNet(4, "group")),
        augmentation=augmentation,
        optimiser=Optimiser(learning_rate=2e-2, warmup_steps=3),
        steps=40,
        batch_size=3,
    )
    loop, convert = Loop(experiment, task_of(data)), Converter(data, experiment)
    steps = {"seed": 0, "order": "shuffle", "batch_size": 3, "start_step": 0, "stop_step": 40}
    for columns in training_batches(data, "train", augmentation, **steps):
        batch = convert(columns)
        assert batch.images_NCHW.dtype == torch.float32 and batch.images_NCHW.abs().max() < 20
        loop.train_step(batch)
    (columns,) = evaluation_batches(data, "val", augmentation, batch_size=3)
    batch = convert(columns)
    loop.method.eval()
    with torch.no_grad():
        predicted = loop.method.predict(batch.images_NCHW)
    matrix = ConfusionMatrix(2, 255)
    matrix.update(predicted.argmax(1), batch.labels_NHW)
    assert matrix.counts.sum() == 3 * (32 * 40 - 36), "pixels without data count nowhere"
    assert min(matrix.iou_per_class()) > 0.9

    folder = checkpoint.save(
        tmp_path / "checkpoint", loop, {"mean_iou": 0.0, "score": 0.0}, data_description(data, experiment)
    )
    served = Predictor(folder, "cpu").predict(columns["images"])
    np.testing.assert_allclose(served, predicted.numpy(), atol=1e-4)
    with pytest.raises(ValueError, match=f"type uint8: the model was trained on {data.info.dtype}"):
        Predictor(folder, "cpu").predict(columns["images"].astype(np.uint8))

    predictor = MapPredictor(folder, torch.device("cpu"))
    for name, expected in zip(columns["ids"], predicted, strict=True):
        path = root / "tiles" / f"{name.rpartition('/')[2]}.tif"
        with predictor.open(path, SceneOptions()) as opened:
            pixels, valid = opened.read((0, 0, *SIZE))
        assert (~valid).sum() == 36 and not valid[:6, :6].any()
        torch.testing.assert_close(predictor(pixels[None])[0], expected, atol=1e-4, rtol=0)

    other = raster(tmp_path / "eight.tif", np.zeros((*SIZE, 4), np.uint8))
    with (
        pytest.raises(ValueError, match="pixels of type uint8: the model was trained on"),
        predictor.open(other, SceneOptions()),
    ):
        pass
