"""Differences between the papers and their code, and between their code and miseg.

Read where a published figure and one of ours are put side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal


@dataclass(frozen=True)
class SettingsDifference:
    """One difference and the rows that it changes."""

    study: Literal["RMI", "Porto", "IIC", "InfoSeg"]
    """Whose: Zhao et al. 2019, Gonçalves et al. 2024, Ji et al. 2019, or Harb and Knöbelreiter 2021."""
    what: str
    """The paper's text, its code's way and miseg's, in words."""
    recipes: tuple[str, ...]
    """Names of the recipes whose results it changes, as patterns (`voc-v3*-rmi`)."""

    def changes(self, recipe: str) -> bool:
        """Whether the recipe of this name is changed by it."""
        return any(fnmatch(recipe, pattern) for pattern in self.recipes)


_RMI_ALL = ("voc-v3-*", "voc-v3plus-*", "camvid-v3plus-*")
_PUBLISHED = "porto-*-as-published"

DIFFERENCES = (
    SettingsDifference(
        "RMI",
        "The paper adds 1e-6 to the diagonal of M before its determinant; the code adds 5e-4 to M and to the "
        "covariance that is inverted, and divides neither by the number of points. Here as in the code.",
        ("*-rmi", "*-rmi-as-published"),
    ),
    SettingsDifference(
        "RMI",
        "The code takes CamVid's unlabelled pixels as a twelfth class; here they are ignored, as the paper's eleven "
        "classes say.",
        ("camvid-v3plus-*",),
    ),
    SettingsDifference(
        "RMI",
        "The code trains CamVid on train and val together and tests on test; here it is trained on train and measured "
        "on val, until the test split is at hand.",
        ("camvid-v3plus-*",),
    ),
    SettingsDifference(
        "RMI",
        "The code's warm-up starts at 1e-4 and its poly decay begins after it; here warm-up and decay are multiplied "
        "and both start at step 0, which gives rates lower by at most warm-up steps / steps.",
        _RMI_ALL,
    ),
    SettingsDifference(
        "RMI",
        "The code leaves biases and batch norm out of the weight decay; here it covers every parameter.",
        _RMI_ALL,
    ),
    SettingsDifference(
        "RMI",
        "The code's affinity loss counts pairs with an ignored pixel as if that pixel had no class, with all its "
        "probabilities at the floor; here such pairs are left out.",
        ("*-affinity",),
    ),
    SettingsDifference(
        "RMI",
        "The code's decoder of V3+ has two plain 3x3 convolutions with dropout between; segmentation-models-pytorch's "
        "has one separable convolution without, and another after the pyramid.",
        ("*-v3plus-*",),
    ),
    SettingsDifference(
        "Porto",
        "The two sides were not tuned alike: the code trains RMI at a learning rate of 1e-4 with batches of 2, mutual "
        "learning at 1e-4 with 10, the baseline at 1e-3 with 8. Those are the recipes as-published; the others give "
        "every method the baseline's 1e-3 and 8.",
        ("porto-*-rmi", "porto-*-rmi-as-published", "porto-*-mutual", "porto-*-mutual-as-published"),
    ),
    SettingsDifference(
        "Porto",
        "The code's RMI is taken at full resolution (pool size and stride 0), where the RMI paper shrinks by 4. "
        "As-published has DF 1, the others DF 4.",
        ("porto-*-rmi", "porto-*-rmi-as-published"),
    ),
    SettingsDifference(
        "Porto",
        "The text's divergence is between class probabilities; the code hands the other network's raw logits to "
        "PyTorch's KLDivLoss, which averages over all elements, classes and ignored pixels too. As-published does so.",
        ("porto-*-mutual", "porto-*-mutual-as-published"),
    ),
    SettingsDifference(
        "Porto",
        "The code steps the teacher first and predicts anew before the student's step, six forward passes a batch; "
        "here both networks learn from one forward pass each, as Zhang et al. allow.",
        ("porto-*-mutual", "porto-*-mutual-as-published"),
    ),
    SettingsDifference(
        "Porto",
        "The code's DeepLabV3 starts from torchvision's weights of COCO, trained for segmentation with VOC's classes, "
        "while its U-Net starts at random; here from ImageNet.",
        ("porto-*-mutual", "porto-*-mutual-as-published"),
    ),
    SettingsDifference(
        "Porto",
        "The code keeps the epoch of lowest training loss; here the last step is reported, and the best on validation "
        "kept beside it.",
        ("porto-*",),
    ),
    SettingsDifference(
        "Porto",
        "The code tests on five random crops of 224 from each image; here on the whole image, its shorter side 234.",
        ("porto-*",),
    ),
    SettingsDifference(
        "IIC",
        "The paper averages the mutual information over displacements; the code, by default, sums the tables of all "
        "displacements into one and takes its information. Here as in the paper.",
        ("*-iic",),
    ),
    SettingsDifference(
        "IIC",
        "The code trains the main and the over-clustering head in turns, an epoch each; here both in every step.",
        ("*-iic",),
    ),
    SettingsDifference(
        "IIC",
        "The code's 1x1 heads pad their input, so that the map of clusters is two pixels larger before it is resized; "
        "here they do not.",
        ("*-iic",),
    ),
    SettingsDifference(
        "IIC",
        "The code trains on, matches on and measures all images with labels together (COCO's train and val, Potsdam's "
        "train and test, and trains on Potsdam's unlabelled tiles too), and keeps the epoch that scored best with "
        "labels; here training is on train, scores are of the last step, on val or, without one, on train.",
        ("coco-*", "potsdam-iic", "potsdam-3-iic"),
    ),
    SettingsDifference(
        "IIC",
        "The code's baselines cut windows of 11 x 11 out of the upsampled features, one pair of places for the whole "
        "batch; here a feature stands for the patch that it sees, and each image has 16 pairs of its own. A feature "
        "sees 31 pixels or so, more than lies between the patches, which makes both tasks easier than their authors'.",
        ("*-relative-position", "*-co-occurrence"),
    ),
    SettingsDifference(
        "InfoSeg",
        "The figure with the layers' sizes and the augmentation's strength were not to be had; ours are in "
        "miseg/networks/infoseg.py and the settings. Published are 300 epochs; here 20,000 steps wherever the size is "
        "the published one.",
        ("*-infoseg", "*-infoseg-hard"),
    ),
    SettingsDifference(
        "InfoSeg",
        "Which images of COCO are COCO-Persons was not to be had; the rule is ours (miseg.data.sources.coco.persons).",
        ("coco-persons-*",),
    ),
    SettingsDifference(
        "Porto",
        "The text's IoU sums true positives and unions over classes (micro IoU); the code's compute_metrics averages "
        "the IoU of the classes. Both are logged.",
        ("porto-*",),
    ),
)
"""Every known difference. One of the loss itself is in its own docstring too."""
