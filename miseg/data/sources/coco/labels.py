"""COCO-Stuff's 182 labels, in the 12 kinds of things and 15 kinds of stuff of its hierarchy.

Published by Caesar et al. (CVPR 2018): labels.txt of nightrome/cocostuff, whose numbers are one higher than those of
the masks, and the hierarchy in CocoStuffClasses.m of nightrome/cocostuff10k. The order of the kinds of stuff is that of
Ji et al. (2019), cocostuff_fine_to_coarse.py of xu-ji/IIC.
"""

from __future__ import annotations

THINGS = {
    "person": range(1),
    "vehicle": range(1, 9),
    "outdoor": range(9, 15),
    "animal": range(15, 25),
    "accessory": range(25, 33),
    "sports": range(33, 43),
    "kitchen": range(43, 51),
    "food": range(51, 61),
    "furniture": range(61, 71),
    "electronic": range(71, 77),
    "appliance": range(77, 83),
    "indoor": range(83, 91),
}
"""Kind of thing -> the labels of COCO's 91 things that are of this kind."""

# fmt: off
STUFF = {
    "ceiling": ("ceiling-other", "ceiling-tile"),
    "floor": ("carpet", "floor-marble", "floor-other", "floor-stone", "floor-tile", "floor-wood"),
    "food": ("food-other", "fruit", "salad", "vegetable"),
    "furniture": (
        "cabinet", "counter", "cupboard", "desk-stuff", "door-stuff", "furniture-other", "light", "mirror-stuff",
        "shelf", "stairs", "table",
    ),
    "raw material": ("cardboard", "metal", "paper", "plastic"),
    "textile": (
        "banner", "blanket", "cloth", "clothes", "curtain", "mat", "napkin", "pillow", "rug", "textile-other", "towel",
    ),
    "wall": ("wall-brick", "wall-concrete", "wall-other", "wall-panel", "wall-stone", "wall-tile", "wall-wood"),
    "window": ("window-blind", "window-other"),
    "building": ("bridge", "building-other", "house", "roof", "skyscraper", "tent"),
    "ground": (
        "dirt", "gravel", "ground-other", "mud", "pavement", "platform", "playingfield", "railroad", "road", "sand",
        "snow",
    ),
    "plant": ("branch", "bush", "flower", "grass", "leaves", "moss", "plant-other", "straw", "tree"),
    "sky": ("clouds", "sky-other"),
    "solid": ("hill", "mountain", "rock", "solid-other", "stone", "wood"),
    "structural": ("cage", "fence", "net", "railing", "structural-other"),
    "water": ("fog", "river", "sea", "water-other", "waterdrops"),
}
# fmt: on
"""Kind of stuff, in the order of the 15 classes -> the names of COCO-Stuff's 91 that are of this kind."""

_FIRST_STUFF = sum(map(len, THINGS.values()))

STUFF_LABELS = {
    name: label for label, name in enumerate(sorted(name for names in STUFF.values() for name in names), _FIRST_STUFF)
}
"""Name of a stuff label -> its number in the masks, 91..181: COCO-Stuff numbers them by alphabet, after the things."""

LABELS = _FIRST_STUFF + len(STUFF_LABELS)
"""Number of labels, 182: a mask holds 0..181, and 255 where nothing is labelled."""
