"""How fast each part is, as ratios in one run."""
