"""Settings planned from the data, as nnU-Net plans them: see `rules`."""
