"""Losses of shapes: edges, distances to them, and centre lines."""
