"""The table of encoders is what building them gives, and names are found in it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import timm
import torch
from segmentation_models_pytorch.encoders import get_encoder

from miseg.networks.encoders import table
from miseg.networks.encoders.probing import probe
from miseg.networks.encoders.table import Encoder, find, standardisation


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
def test_a_line_is_what_building_gives(name: str) -> None:
    assert probe(name) == table.encoders()[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vgg11", "swin_tiny_patch4_window7_224", "vit_small_patch14_dinov2", "crossvit_9_240"]
)
def test_a_line_is_what_building_gives_of_larger_ones(name: str) -> None:
    assert probe(name) == find(name)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_the_line_of_the_library_s_own(stride: int) -> None:
    encoder = get_encoder("mit_b0", in_channels=4, weights=None, output_stride=stride).eval()
    with torch.inference_mode():
        features = encoder(torch.randn(1, 4, 64, 96))
    assert [f.shape[-1] for f in features] == [96 // min(2**level, stride) for level in range(6)]
    assert features[1].shape[1] == 0 and find("mit_b0").kind == "quarter"
    assert stride == 32 or stride in find("mit_b0").output_strides


def test_every_line_comes_back() -> None:
    for encoder in table.encoders().values():
        assert table._read(table.line(encoder)) == encoder
    odd = Encoder("a", "none", weights={"b": ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))})
    assert table._read(table.line(odd)) == odd


def test_every_encoder_of_timm_is_in_the_table() -> None:
    assert table.versions(), "the table is unfinished"
    if table.versions()["timm"] != timm.__version__:
        pytest.skip(f"the table is of {table.versions()}")
    assert set(timm.list_models()) | {f"mit_b{size}" for size in range(6)} == set(table.encoders())


def test_names_end_with_the_tag_of_their_weights() -> None:
    assert find("resnet34.ra4_e3600_r224_in1k") == find("resnet34")
    assert standardisation("resnet34.ra4_e3600_r224_in1k")[0] == (0.5, 0.5, 0.5)
    assert standardisation("resnet34")[0] == (0.485, 0.456, 0.406)
    assert standardisation("mit_b3")[0] == (0.485, 0.456, 0.406)
    with pytest.raises(ValueError, match=r"no such weights of resnet34; there are resnet34.a1_in1k"):
        find("resnet34.a1")


@pytest.mark.parametrize("name", ["", "  "])
def test_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="give a name of timm's, such as resnet34"):
        find(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        *(("resnet34x", "resnet34"), ("swin_tiny", "swin_tiny_patch4_window7_224"), ("mitb0", "mit_b0")),
        *(("dinov3", "vit_small_patch16_dinov3"), ("ResNet43", "resnet34")),
    ],
)
def test_an_unknown_name_lists_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"encoder = '{name}': .* the nearest are .*{nearest}"):
        find(name)


def test_the_names_of_timm_are_read_from_its_source_files() -> None:
    assert table._names_of_timm() == set(timm.list_models())


def test_an_encoder_that_the_table_lacks_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(table.encoders())
    expected = known.pop("test_resnet")
    monkeypatch.setattr(table, "encoders", lambda: known)
    assert find("test_resnet") == expected


@pytest.mark.parametrize(
    ("architecture", "encoder", "said"),
    [("linknet", "mit_b0", "Linknet cannot take it"), ("unet", "resnet5", "the nearest are resnet50")],
)
def test_an_encoder_is_refused_without_torch(architecture: str, encoder: str, said: str) -> None:
    code = (
        "import sys\nfrom miseg.networks.configs import EncoderDecoder\n"
        f"try:\n    EncoderDecoder({architecture!r}, {encoder!r})\nexcept ValueError as error:\n    print(error)\n"
        "print({'torch', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    message, modules = done.stdout.splitlines()
    assert said in message and modules == "set()", done
