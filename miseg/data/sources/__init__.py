"""Readers of the published layouts."""

from miseg.extras import require

require("data", "miseg.data.sources", "PIL", "pyarrow", "scipy")
