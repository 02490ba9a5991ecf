"""Maps of scenes and of many images by a trained model."""

from miseg.extras import require

require("service", "miseg.service.mapping", "pandas", "ray")
