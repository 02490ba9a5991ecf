"""The tuning commands."""
