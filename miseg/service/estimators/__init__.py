"""Estimators of mutual information measured where it is known."""

from miseg.extras import require

require("service", "miseg.service.estimators", "pandas", "ray")
