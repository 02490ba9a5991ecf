"""A tiny series of two places at three dates."""

from __future__ import annotations

import numpy as np

from miseg.data.checks import encode_png
from miseg.data.samples import DataSetInfo, Sample

HEIGHT, WIDTH, BANDS = 12, 14, 2
DATES = ("2019-04-01", "2019-05-01", "2019-06-01")


class Places:
    """Two places at three dates; every pixel has a value of its own, and one date of the first place is cloudy."""

    info = DataSetInfo("places", ("one", "two"), ((255, 0, 0), (0, 255, 0)), channels=BANDS, full_scale=1000, nodata=0)

    def available(self):
        return ("train",)

    def samples(self, split):
        for place in range(2):
            for number, date in enumerate(DATES):
                first = 1 + 2000 * place + 300 * number
                pixels = first + np.arange(HEIGHT * WIDTH * BANDS, dtype=np.uint16).reshape(HEIGHT, WIDTH, BANDS)
                if (place, number) == (0, 2):
                    pixels[:, 3:] = 0
                mask = np.zeros((HEIGHT, WIDTH), np.uint8)
                mask[:, WIDTH // 2 :] = 1
                yield Sample(f"{place}/{date}", split, pixels, encode_png(mask), f"place{place}/r00000-c00000", date)
