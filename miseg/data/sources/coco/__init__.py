"""Readers of COCO: its frames, its labels, and the two data sets that IIC (Ji et al., 2019) makes of them."""
