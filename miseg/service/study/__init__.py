"""A study: methods by data sets by label budgets, under equal budgets."""

from miseg.extras import require

require("service", "miseg.service.study", "mlflow", "ray")
