"""Measurements of mutual information: of its estimators, and of the bound that RMI maximises."""
