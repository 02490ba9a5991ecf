"""The labelling page."""

from miseg.extras import require

require("label", "miseg.service.labelling", "ray", "starlette")
