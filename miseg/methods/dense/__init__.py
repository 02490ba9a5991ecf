"""Methods that learn from masks of the training images. Here torch is imported."""
