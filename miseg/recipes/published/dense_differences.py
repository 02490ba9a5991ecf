"""Differences of the studies that learn from dense labels: RMI, the Porto study, and CWMI."""

from __future__ import annotations

from miseg.recipes.published.difference import SettingsDifference

_CAMVID = ("camvid-v3-*", "camvid-v3plus-*")
_RMI_ALL = ("voc-v3-*", "voc-v3plus-*", *_CAMVID)

DENSE_DIFFERENCES: tuple[SettingsDifference, ...] = (
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
        effect="By the table's own figures the mean of V3 with CE is 58.50 over twelve classes and 61.02 over eleven, "
        "and RMI's gain 2.61 and 2.76; of V3+ the gain is 2.24 and 2.34.",
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
        effect="Rates are lower by at most 5 %: 1,500 of 30,000 steps and 300 of 6,000.",
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
        effect="Gradients, by 50 to 92 % of the code's norm; scores: not measured.",
    ),
    SettingsDifference(
        "RMI",
        "The code's DeepLabV3 goes from the pyramid straight to its last 1x1 convolution; that of "
        "segmentation-models-pytorch has another 3x3 convolution of 256 channels with batch norm between.",
        ("voc-v3-*", "camvid-v3-*"),
    ),
    SettingsDifference(
        "RMI",
        "The code's decoder of V3+ has two plain 3x3 convolutions and dropout after them; that of "
        "segmentation-models-pytorch has one separable convolution without, and another after the pyramid.",
        ("*-v3plus-*",),
    ),
    SettingsDifference(
        "RMI",
        "The stem of the code's ResNet-101 has 64, 64 and 128 feature maps, and its shortcuts halve by a stride; "
        "timm's resnet101d has 32, 32 and 64, and its shortcuts average. method.network.encoder=resnet101s has the "
        "code's.",
        _RMI_ALL,
    ),
    SettingsDifference(
        "RMI",
        "The last stage of the code's ResNet has stride 1 without dilation; here its second and third block are "
        "dilated by 2, as in the paper of DeepLabV3.",
        _RMI_ALL,
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
        "Porto",
        "The text's IoU sums true positives and unions over classes (micro IoU); the code's compute_metrics averages "
        "the IoU of the classes, and so do the printed figures. Both are logged; the mean stands beside theirs.",
        ("porto-*",),
        effect="By the printed accuracies micro IoU would be 88.5 on Cityscapes and 58.3 on VOC 2012 with CE; 59.31 "
        "and 19.65 are printed.",
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
        "The authors train every loss with Adam at 1e-4, which falls by a fifth every ten epochs, in batches of 10; "
        "here the recipes have the rate, the schedule and the batch of the others on their data.",
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
"""Every known one; differences of the losses themselves are in the losses' docstrings too."""
