"""Encoders of timm: a table of the features that each gives a decoder, and the sources of their weights."""
