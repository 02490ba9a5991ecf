"""What tests share: writers of tiny data sets and methods, servers, pages, pretend clouds."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""
