"""Checks the built documentation: every link, picture and anchor leads somewhere, and no reference is left over.

python -m tests.site_links site

Zensical's strict build refuses dead links and references in Markdown; this reads the HTML, so it sees pictures, raw
HTML and what docstrings bring in, too. Addresses outside the site are not asked for.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LEFT_OVER = re.compile(r"\[[^\][]+\]\[[^\][]*\]")
"""A Markdown reference that nothing resolved, such as [Method][miseg.interface.Nothing]."""


class _Page(HTMLParser):
    """The links, the anchors and the text outside code of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.text: list[str] = []
        self._code = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.links += [values[name] or "" for name in ("href", "src") if name in values]
        self.anchors |= {values[name] or "" for name in ("id", "name") if name in values}
        self._code += tag in ("code", "pre", "script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data: str) -> None:
        if not self._code:
            self.text.append(data)


def faults(site: Path) -> Iterator[str]:
    """A line for each link, picture or anchor of the site that leads nowhere, and for each reference left over.

    Args:
        site: the folder that Zensical built.

    Raises:
        ValueError: the folder holds no page.
    """
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        raise ValueError(f"{site} holds no page: build it with make docs")
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        # Addresses of the page for what is not found are from the server's root.
        if name == Path("404.html"):
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target = target / "index.html"
            if not target.is_file():
                yield f"{name}: {link} leads to no file"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{name}: {link} leads to no anchor"
        for reference in LEFT_OVER.findall(" ".join(page.text)):
            yield f"{name}: {reference} is not resolved"


def main(site: str = "site") -> int:
    """Print every fault; 1 where there is one."""
    found = list(faults(Path(site)))
    print("\n".join(found) or f"{site}: every link, picture and anchor leads somewhere")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
