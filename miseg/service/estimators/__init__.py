"""Estimators of mutual information measured where it is known."""
