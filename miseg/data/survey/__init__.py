"""What a packed data set holds, and what looks wrong in it."""

from miseg.extras import require

require("data", "miseg.data.survey", "PIL", "pyarrow", "scipy")
