"""Methods that learn from pairs of patches and map from a few labelled pixels. Here torch is imported."""
