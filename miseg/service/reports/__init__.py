"""A study as a page, Markdown and CSV."""
