"""Losses of each pixel alone."""
