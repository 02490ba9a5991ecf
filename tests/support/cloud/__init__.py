"""Clusters and clouds, real and pretended."""
