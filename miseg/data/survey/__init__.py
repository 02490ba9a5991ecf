"""The report on a packed data set: its numbers, and what looks wrong in it."""

from miseg.extras import require

require("data", "miseg.data.survey", "PIL", "pyarrow", "scipy")
