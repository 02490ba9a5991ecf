"""Differences between the papers and their code, and between their code and miseg.

Read where a published figure and one of ours are put side by side; docs/fidelity.md shows them all.
"""

from __future__ import annotations

from miseg.recipes.published.dense_differences import DENSE_DIFFERENCES
from miseg.recipes.published.difference import SettingsDifference

__all__ = ["DIFFERENCES", "SettingsDifference"]

_SIMILARITY = ("*-similarity", "*-similarity-no-*", "*-similarity-one-date", "*-similarity-augmented")
_PUBLISHED_SIMILARITY = "*-similarity-as-published*"
_WITHOUT_LABELS = ("iic", "kmeans", "relative-position", "co-occurrence")
_IIC = ("*-iic", "*-iic-as-published")

DIFFERENCES: tuple[SettingsDifference, ...] = (
    *DENSE_DIFFERENCES,
    SettingsDifference(
        "IIC",
        "The paper averages the mutual information over displacements, and so do the authors' commands; the code's own "
        "default sums the tables of all displacements into one and takes its information. Here as in the paper.",
        _IIC,
    ),
    SettingsDifference(
        "IIC",
        "The code trains the main and the over-clustering head in turns, an epoch each; here both in every step. "
        "In the authors' command for Potsdam-3 the main head's loss counts 1.5 times; here each head's counts once.",
        _IIC,
    ),
    SettingsDifference(
        "IIC",
        "The code's 1x1 heads pad their input, so that the map of clusters is two pixels larger before it is resized; "
        "here they do not.",
        _IIC,
    ),
    SettingsDifference(
        "IIC",
        "The code trains on, matches on and measures all images with labels together (COCO's train and val, Potsdam's "
        "train and test, and trains on Potsdam's unlabelled tiles too), and keeps the epoch that scored best with "
        "labels; here training is on train, scores are of the last step, on val or, without one, on train.",
        ("coco-*", "potsdam-iic", "potsdam-3-iic", "potsdam-iic-as-published", "potsdam-3-iic-as-published"),
    ),
    SettingsDifference(
        "IIC",
        "The code's baselines cut windows of 11 x 11 out of the upsampled features, one pair of places for the whole "
        "batch; here a feature stands for the patch that it sees, and each image has 16 pairs of its own. A feature "
        "sees 31 pixels or so, more than lies between the patches, which makes both tasks easier than their authors'.",
        ("*-relative-position", "*-co-occurrence", "*-relative-position-as-published", "*-co-occurrence-as-published"),
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
        "Equation 4.5's extractors take the local features and flatten them, and so do these; the layers' sizes were "
        "not to be had. Ours share two blocks that halve the map twice, and a dense layer at each of 8 x 8 positions "
        "comes before the flattening. Of the augmentation, the strengths of jitter and crop were not to be had either. "
        "The steps are 300 epochs of the thesis's images, or of IIC's 8,550 chips for Potsdam.",
        ("*-infoseg-as-published",),
    ),
    SettingsDifference(
        "InfoSeg",
        "Which images of COCO are COCO-Persons was not to be had; the rule is ours (miseg.data.sources.coco.persons).",
        ("coco-persons-*",),
    ),
    SettingsDifference(
        "IIC",
        "The authors' commands for Potsdam have learning rate 1e-6 with 6 classes and 1e-5 with 3, batches of 60 and "
        "75, 36 and 24 clusters in the second head, windows of ±5 and ±10, inputs of 200 pixels, no Sobel and jitter "
        "0.1; here it is 1e-4, batches of 64, 24 clusters, ±10, 128 pixels, Sobel and jitter 0.4 for both.",
        ("potsdam-iic", "potsdam-3-iic"),
    ),
    SettingsDifference(
        "IIC",
        "The authors' commands vary the hue by up to 0.1 (by 0.125 on COCO-Stuff-15); here an offset of each channel, "
        "a third of the jitter at most, stands for it. Their 4,800 epochs are steps here, of 8,550 chips or 52,000 "
        "images.",
        tuple(f"{data}-iic-as-published" for data in ("coco-stuff-15", "potsdam", "potsdam-3")),
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
        "The thesis resizes each image of COCO-Persons to 128 x 128; here training draws crops of 128 x 128. "
        "coco-persons-*-as-published resize.",
        tuple(f"coco-persons-{method}" for method in ("infoseg", "infoseg-hard", *_WITHOUT_LABELS)),
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
        "neighbour in the batch, which lies in the same chip. method.negatives=batch is the paper's, and that of Deep "
        "InfoMax.",
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
        (_PUBLISHED_SIMILARITY, "*-deep-infomax-as-published"),
    ),
    SettingsDifference(
        "Sanchez",
        "The paper's pairs of Sentinel-2 are of two dates and augmented too, over 4,200 series of 12 dates and "
        "512 x 512 pixels; here they differ by the date alone, in one series. flanders-similarity-augmented has both.",
        ("flanders-similarity", "flanders-similarity-no-*", "naip-series-similarity"),
    ),
)
"""Every known difference. One of the loss itself is in its own docstring too."""
