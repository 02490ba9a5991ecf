"""Docstrings: the first line names the thing, plainly to a stranger, and no issue is cited by its number."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.support import ROOT

RIDDLE = re.compile(r"(What|Where|How|Which|When|Who|As|That|Those)\b")
ISSUE = re.compile(r"\bissues? \d", re.IGNORECASE)
FILES = sorted(path for folder in ("miseg", "jobs", "dashboards") for path in (ROOT / folder).rglob("*.py"))


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of the docstrings of modules, classes and functions, and of the texts under assignments."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        named = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for index, statement in enumerate(body):
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    before = body[index - 1] if index else None
                    if (named and not index) or isinstance(before, ast.Assign | ast.AnnAssign):
                        yield statement.lineno, text.strip()


def riddles(source: str) -> list[str]:
    """Line and first line of each docstring that begins with a question word."""
    found = [(line, text.partition("\n")[0]) for line, text in docstrings(ast.parse(source))]
    return [f"{line}: {first}" for line, first in found if RIDDLE.match(first)]


def test_riddles_are_found() -> None:
    source = (
        '"""What it does."""\nx = 1\n"""How many."""\ndef f():\n    """Whatever."""\n    "Where"\n    """As g."""\n'
    )
    assert riddles(source) == ["1: What it does.", "3: How many."]


def test_first_lines_name_the_thing() -> None:
    found = {str(path.relative_to(ROOT)): riddles(path.read_text(encoding="utf-8")) for path in FILES}
    assert not {path: lines for path, lines in found.items() if lines}


def test_no_issue_is_cited_by_its_number() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    assert not [path for path in [*FILES, *pages] if ISSUE.search(path.read_text(encoding="utf-8"))]
