"""miseg: image segmentation by mutual information, tuned and compared under equal budgets on a Ray cluster."""

__version__ = "0.2.0"
