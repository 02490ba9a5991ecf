"""A study as a page, Markdown and CSV."""

from miseg.extras import require

require("service", "miseg.service.reports", "jinja2", "mlflow")
