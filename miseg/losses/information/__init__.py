"""Losses of mutual information and divergences."""
