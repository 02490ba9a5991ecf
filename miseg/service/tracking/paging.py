"""MLflow answers a search in pages: here all of them, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PAGE = 1000
"""Entries of a page, the most that every MLflow server takes."""


def all_pages(search: Callable[..., Any], **settings: Any) -> list[Any]:
    """Every entry that a search of MLflow's client gives, in the order of its pages.

    Args:
        search: a method of `MlflowClient` that takes `max_results` and `page_token`, such as `search_runs`.
        settings: its other arguments.
    """
    entries: list[Any] = []
    token: str | None = None
    while True:
        page = search(**settings, max_results=PAGE, page_token=token)
        entries += page
        token = page.token
        if not token:
            return entries
