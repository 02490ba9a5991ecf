"""Losses of overlaps: of the pixels that an image shows of a class and those predicted as it."""
