"""Methods that learn from images alone and give clusters. Here torch is imported."""
