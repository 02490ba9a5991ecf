"""A difference between what was published and what runs here."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Literal


@dataclass(frozen=True)
class SettingsDifference:
    """One difference and the rows that it changes."""

    study: Literal["RMI", "Porto", "Sanchez", "IIC", "InfoSeg", "CWMI"]
    """Whose: Zhao et al. 2019, Gonçalves et al. 2024, Sanchez et al., Ji et al. 2019, Harb and Knöbelreiter 2021, or Lu
    et al. 2025."""
    what: str
    """The paper's text, its code's way and miseg's, in words."""
    recipes: tuple[str, ...]
    """Names of the recipes whose results it changes, as patterns (`voc-v3*-rmi`)."""
    effect: str = ""
    """Its effect in figures that were measured here or follow from the paper's; "": not measured."""

    def changes(self, recipe: str) -> bool:
        """Whether the recipe of this name is changed by it."""
        return any(fnmatch(recipe, pattern) for pattern in self.recipes)
