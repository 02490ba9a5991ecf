"""Options and start of every job."""

from miseg.extras import require

require("service", "miseg.service.command", "pyarrow", "tyro")
