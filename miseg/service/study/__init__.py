"""A study: methods by data sets by label budgets, under equal budgets."""
