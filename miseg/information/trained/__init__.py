"""Estimators that train: critics of a bound, densities, and representations for nearest neighbours."""
