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

    study: Literal["RMI", "Porto", "Sanchez", "IIC", "InfoSeg", "CWMI"]
    """Whose: Zhao et al. 2019, Gonçalves et al. 2024, Sanchez et al., Ji et al. 2019, Harb and Knöbelreiter 2021, or Lu
    et al. 2025."""
    what: str
    """The paper's text, its code's way and miseg's, in words."""
    recipes: tuple[str, ...]
    """Names of the recipes whose results it changes, as patterns (`voc-v3*-rmi`)."""

    def changes(self, recipe: str) -> bool:
        """Whether the recipe of this name is changed by it."""
        return any(fnmatch(recipe, pattern) for pattern in self.recipes)


_CAMVID = ("camvid-v3-*", "camvid-v3plus-*")
_RMI_ALL = ("voc-v3-*", "voc-v3plus-*", *_CAMVID)
_SIMILARITY = ("*-similarity", "*-similarity-no-*", "*-similarity-one-date", "*-similarity-augmented")
_PUBLISHED_SIMILARITY = "*-similarity-as-published*"
_POTSDAM_IIC = ("potsdam-iic", "potsdam-3-iic")
_PUBLISHED = "porto-*-as-published"

DIFFERENCES: tuple[SettingsDifference, ...] = (
    SettingsDifference(
        "RMI",
        "The paper adds 1e-6 to the diagonal of M before its determinant; the code adds 5e-4 to M and to the "
        "covariance that is inverted, and divides neither by the number of points. Here as in the code.",
        ("*-rmi", "*-rmi-as-published"),
    ),
    SettingsDifference(
        "RMI",
        "The code takes CamVid's unlabelled pixels as a twelfth class, and the means that table 4 prints are over "
        "twelve; here they are ignored and means are over the eleven classes whose IoU the table lists.",
        _CAMVID,
    ),
    SettingsDifference(
        "RMI",
        "The paper trains CamVid on train and val together and tests on test; here it is trained on train and measured "
        "on val.",
        _CAMVID,
    ),
    SettingsDifference(
        "RMI",
        "The paper's warm-up is step / warm-up steps, and its decay begins where that ends; the code's warm-up starts "
        "at 1e-4. Here warm-up and decay are multiplied and both start at step 0, which gives rates lower by at most "
        "warm-up steps / steps. optimiser.decay_from=warmup is the paper's.",
        _RMI_ALL,
    ),
    SettingsDifference(
        "RMI",
        "The code leaves biases and batch norm out of the weight decay; here it covers every parameter. "
        "optimiser.decayed=weights is the code's.",
        _RMI_ALL,
    ),
    SettingsDifference(
        "RMI",
        "The code scales images bicubically and pads smaller ones on the right and at the bottom; here scaling is "
        "bilinear and padding on all sides. augmentation.interpolation=bicubic and augmentation.padding=end are the "
        "code's.",
        _RMI_ALL,
    ),
    SettingsDifference(
        "RMI",
        "The code's affinity loss also counts pairs with an ignored pixel or the image's border, as if these had no "
        "class and all their probabilities at the floor, and shrinks the logits of ignored pixels with the others; "
        "here such pairs are left out, and a mean of logits is over the counted ones. On eight masks of CamVid, with "
        "logits from nearly flat to sure, the two gradients differed by 50 to 92 % of the code's norm. "
        "method.pairs=published is the code's.",
        ("*-affinity",),
    ),
    SettingsDifference(
        "RMI",
        "The code's DeepLabV3 goes from the pyramid straight to its last 1x1 convolution; that of "
        "segmentation-models-pytorch has another 3x3 convolution of 256 channels with batch norm between.",
        ("voc-v3-*", "camvid-v3-*"),
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
        "The text resizes images to 234 x 234; the code their shorter side to 234, as here.",
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
        "the IoU of the classes, and so do the printed figures. Both are logged; the mean stands beside theirs.",
        ("porto-*",),
    ),
    SettingsDifference(
        "IIC",
        "The authors' commands for Potsdam have learning rate 1e-6 with 6 classes and 1e-5 with 3, batches of 60 and "
        "75, 36 and 24 clusters in the second head, windows of ±5 and ±10, inputs of 200 pixels, no Sobel and jitter "
        "0.1; here it is 1e-4, batches of 64, 24 clusters, ±10, 128 pixels, Sobel and jitter 0.4 for both.",
        _POTSDAM_IIC,
    ),
    SettingsDifference(
        "IIC",
        "The authors' command for COCO-Stuff-15 has batches of 60 and 4,800 epochs of their subset; here batches of 64 "
        "and 20,000 steps.",
        ("coco-stuff-15-iic",),
    ),
    SettingsDifference(
        "InfoSeg",
        "Equation 4.5's high-level extractors take the local features L, and flatten them; here they share two blocks "
        "that take the features before the last 1x1 convolution, averaged over the image.",
        ("*-infoseg", "*-infoseg-hard"),
    ),
    SettingsDifference(
        "InfoSeg",
        "The thesis resizes each image of COCO-Persons to 128 x 128; here training draws crops of 128 x 128.",
        ("coco-persons-*",),
    ),
    SettingsDifference(
        "Sanchez",
        "The paper has Adam at 1e-4, constant, and z of 10 values, 32 being no different, as P-similarity-as-published "
        "has; here the rate is 2e-3 with warm-up and decay, and z has 32.",
        _SIMILARITY,
    ),
    SettingsDifference(
        "Sanchez",
        "The paper draws unpaired patches by shuffling the whole batch over all images; here a patch's partner is its "
        "neighbour in the batch, which lies in the same chip. method.negatives=batch is the paper's.",
        (*_SIMILARITY, "*-deep-infomax"),
    ),
    SettingsDifference(
        "Sanchez",
        "The paper sums the local information over the positions of the feature map and the L1 term over the values of "
        "z; here both are means, so α, β and γ weigh other shares. method.reduction=sum is the paper's.",
        _SIMILARITY,
    ),
    SettingsDifference(
        "Sanchez",
        "Algorithm 2 gives a pixel the class of argmin D, a sum of softplus terms over the paired and the unpaired "
        "combinations of both patches; here it takes the class of the highest mean T between the pixel's features and "
        "the labelled patches' representations, one of the four terms without its softplus. method.terms=all is the "
        "paper's.",
        _SIMILARITY,
    ),
    SettingsDifference(
        "Sanchez",
        "The paper draws the M labels of a class from the very image that is mapped (examples=image); here they are "
        "drawn over up to 64 chips of one date together. It trains on 3,150 unlabelled images of Potsdam "
        "(pairs.unlabelled=true); here on the labelled training split.",
        (*_SIMILARITY, "*-deep-infomax", "*-autoencoder"),
    ),
    SettingsDifference(
        "Sanchez",
        "The paper prints no layers of its encoder and statistics networks, no number of steps and no strength of its "
        "augmentation. Here the networks are those of miseg/networks/patches.py, as published with inner products for "
        "scores, of 6,000 steps; shifts are of one pixel, and jitter deviates by 0.1.",
        (_PUBLISHED_SIMILARITY,),
    ),
    SettingsDifference(
        "Sanchez",
        "The paper draws the patches of a batch over all images; here 32 neighbours in a batch are of one pair of "
        "chips, so that a batch of 512 is of 16 pairs, and its shuffle meets the same chip for about one in 16.",
        (_PUBLISHED_SIMILARITY,),
    ),
    SettingsDifference(
        "CWMI",
        "The authors add their four levels to 0.9 times a class-balanced cross-entropy, and the first epoch is that "
        "alone; here cross-entropy is plain, the two weights add up to 1 in the same ratio, and the first 2 % of the "
        "steps are cross-entropy alone.",
        ("*-cwmi",),
    ),
    SettingsDifference(
        "CWMI",
        "The code's filters lie a bin beside the spectrum's frequencies for even sides, M has no ridge, and classes "
        "that an image does not show count; here filters lie at the frequencies, M has a ridge, and such classes are "
        "left out.",
        ("*-cwmi",),
    ),
)
"""Every known difference. One of the loss itself is in its own docstring too."""
