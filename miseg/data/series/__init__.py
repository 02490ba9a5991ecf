"""Own series: scenes of one place at several dates, of any bands, packed with or without labels."""

from miseg.extras import require

require("geo", "miseg.data.series", "PIL", "pyarrow", "rasterio", "shapely")
