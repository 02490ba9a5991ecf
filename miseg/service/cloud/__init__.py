"""Programs on a cluster head or node (`python -m`): budget guard, spot notices, fall-back, dashboards."""

from miseg.extras import require

require("service", "miseg.service.cloud", "ray", "tyro")
