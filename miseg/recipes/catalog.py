"""Every recipe by its name."""

from __future__ import annotations

from collections.abc import Callable

from miseg.recipes import few_labels, porto, rmi_paper, streets, unsupervised
from miseg.recipes.experiment import Experiment

RECIPES: dict[str, Callable[..., Experiment]] = {
    **streets.RECIPES,
    **rmi_paper.RECIPES,
    **porto.RECIPES,
    **few_labels.RECIPES,
    **unsupervised.RECIPES,
}
