"""A newcomer finds what is looked for: a class has its own name, and no folder, file or list of parameters is long."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.support import ROOT

PACKAGE = ROOT / "miseg"
SERVICE = PACKAGE / "service"

LINES, FILES, PARAMETERS = 300, 14, 6


def parsed(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text())


def test_a_class_has_a_name_of_its_own() -> None:
    """But for networks, whose settings are called as they are, in ids for ever."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, module in parsed(PACKAGE):
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path))
    shared = {name: found for name, found in places.items() if len(found) > 1}
    for name in ("DeepLab", "EncoderDecoder", "InfoSegNetwork", "PatchEncoder", "UNet"):
        assert len(found := shared.pop(name)) == 2 and "miseg/networks/configs.py" in found
    assert shared == {}


def test_no_file_and_no_folder_is_too_large() -> None:
    lines = {str(path): len((ROOT / path).read_text().splitlines()) for path, _ in parsed(PACKAGE)}
    assert {path: count for path, count in lines.items() if count > LINES} == {}
    folders = {PACKAGE, *(path.parent for path in PACKAGE.rglob("*.py"))}
    files = {folder: [path for path in folder.glob("*.py") if path.name != "__init__.py"] for folder in folders}
    assert {str(folder): len(found) for folder, found in files.items() if len(found) > FILES} == {}


def test_no_function_of_the_service_takes_many_parameters() -> None:
    many = {}
    for path, module in parsed(SERVICE):
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                names = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
                if len(names) > PARAMETERS:
                    many[f"{path}:{node.name}"] = names
    assert many == {}


def test_an_import_inside_a_function_says_why() -> None:
    """Start-up time and extras are reasons; a circle is none. A comment stands beside it."""
    silent = []
    for path, module in parsed(PACKAGE):
        lines = (ROOT / path).read_text().splitlines()
        for function in ast.walk(module):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                imports = [node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
                if imports:
                    first = min(node.lineno for node in imports)
                    last = max(node.end_lineno or node.lineno for node in imports)
                    if not any("#" in line for line in lines[max(0, first - 4) : last + 1]):
                        silent.append(f"{path}:{first}")
    assert silent == []
