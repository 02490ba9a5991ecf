"""What a user of the package relies on: a version, types, a licence, and how to cite it."""

from __future__ import annotations

import re
from importlib import metadata

import yaml

import miseg
from tests.support import ROOT


def test_the_version_is_the_packages() -> None:
    """One literal: an installation that is older than the checkout says so here."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", miseg.__version__)
    assert metadata.version("miseg") == miseg.__version__


def test_the_version_has_a_section_of_changes_and_is_the_one_to_cite() -> None:
    assert f"\n## {miseg.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == miseg.__version__
    assert citation["cff-version"] == "1.2.0" and citation["title"] and citation["message"]
    assert all(author.get("name") for author in citation["authors"])


def test_the_licence_is_apaches() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in text
    assert metadata.metadata("miseg")["License-Expression"] == "Apache-2.0"


def test_the_package_has_types() -> None:
    assert (ROOT / "miseg" / "py.typed").is_file()
