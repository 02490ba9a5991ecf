"""Distributions of pairs whose mutual information is known."""
