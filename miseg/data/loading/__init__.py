"""From packed images to batches: order, augmentation, pairs, tiles."""

from miseg.extras import require

require("data", "miseg.data.loading", "PIL", "pyarrow", "scipy")
