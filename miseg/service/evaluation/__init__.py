"""A trained model measured: a split, few labels, the RMI bound, a comparison, the dense CRF."""

from miseg.extras import require

require("service", "miseg.service.evaluation", "pandas", "ray")
