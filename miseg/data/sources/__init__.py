"""Readers of the published layouts."""
