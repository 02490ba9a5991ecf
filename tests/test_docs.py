"""README and docs: their sentences are short, their paths are there, and a build with a dead link fails."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from miseg.commands.program import COMMANDS
from tests import site_links
from tests.support import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WORDS = 30
PATH = re.compile(r"(?<![\w/.~])((?:miseg|jobs|tests|dashboards|cluster)/[\w./-]*\w/?)")
MODULE = re.compile(r"python -m ((?:miseg|tests)[\w.]*\w)")
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")


def prose(text: str) -> list[str]:
    """The paragraphs and list items of a page, without code, tables, headings and lines that only reference modules."""
    text = re.sub(r"^```.*?^```", "\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^:::.*(\n    .*)*", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"^(\||#).*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*([-*]|\d+\.) ", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"!?\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])", r"\1", text)
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]


def sentences(text: str) -> list[str]:
    """Its sentences: they end with . ? or ! before a capital letter, code, a digit or an emphasis."""
    ends = re.compile(r"(?<=[.?!])[*)”\"]*\s+(?=[A-ZÄÖÜ*`\d(]|code\b)")
    return [sentence for paragraph in prose(text) for sentence in ends.split(paragraph)]


def words(sentence: str) -> int:
    return sum(any(letter.isalnum() for letter in word) for word in sentence.split())


def test_sentences_are_counted() -> None:
    text = "One `two words` three.\nFour [five six](x.md).\n\n```\na b c\n```\n| a | b |\n# Heading\n- Item one, two"
    assert [words(sentence) for sentence in sentences(text)] == [3, 3, 3]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_are_short(page: Path) -> None:
    long = [sentence for sentence in sentences(page.read_text(encoding="utf-8")) if words(sentence) > WORDS]
    assert not long, "\n".join(f"{words(sentence)} words: {sentence}" for sentence in long)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_and_links_lead_to_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = {*PATH.findall(text), *(module.replace(".", "/") + ".py" for module in MODULE.findall(text))}
    missing = {path for path in named if not (ROOT / path).exists()}
    prose_and_tables = re.sub(r"`[^`]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    links = {link for link in LINK.findall(prose_and_tables) if "://" not in link}
    missing |= {link for link in links if not (page.parent / link).exists()}
    assert not missing


def test_every_page_is_in_the_navigation() -> None:
    named = re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text(encoding="utf-8"))
    assert sorted(named) == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES[1:])


def test_the_readme_is_short_and_its_loss_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) < 150
    (code,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 6
    names: dict[str, object] = {}
    exec(code, names)
    gradient = names["logits_NKHW"].grad  # type: ignore[attr-defined]
    assert gradient.isfinite().all() and gradient.any()


def build(folder: Path, text: str) -> tuple[str, bool]:
    """What `make docs` says of a page with `text` under this project's settings, and whether it lets it pass."""
    settings = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    settings = re.sub(r"^nav = \[.*?^\]\n", "", settings, flags=re.DOTALL | re.MULTILINE)
    settings = settings.replace('paths = ["."]', f'paths = ["{ROOT}"]').replace("extra_css", "# extra_css")
    (folder / "zensical.toml").write_text(settings, encoding="utf-8")
    (folder / "docs").mkdir()
    (folder / "docs/index.md").write_text(f"# Page\n\n{text}\n", encoding="utf-8")
    (folder / "docs/other.md").write_text("# Other\n\n## There\n\n::: miseg.losses.cross_entropy_parts\n")
    command = [Path(sys.executable).parent / "zensical", "build", "--strict", "--clean"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    faults = [] if built.returncode else list(site_links.faults(folder / "site"))
    said = re.sub(r"\x1b\[[\d;]*m", "", built.stdout + built.stderr)
    return "\n".join([said, *faults]), not (built.returncode or faults)


def test_a_build_whose_links_lead_somewhere_passes(tmp_path: Path) -> None:
    said, passes = build(tmp_path, "[x](other.md#there) [loss][miseg.losses.cross_entropy_parts]")
    assert passes, said


BROKEN = {
    "a page": ("[x](nowhere.md)", ["page does not exist"]),
    "an anchor": ("[x](other.md#nowhere)", ["anchor does not exist"]),
    "a reference": ("[x][miseg.losses.Nothing]", ["unresolved autoref"]),
    "a module": ("::: miseg.losses.nothing", ["miseg.losses.nothing could not be found"]),
    "HTML": ('![x](no.png) <a href="no.html">x</a>', ["no.png leads to no file", "no.html leads to no file"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", BROKEN)
def test_a_build_with_a_dead_link_fails(fault: str, tmp_path: Path) -> None:
    text, messages = BROKEN[fault]
    said, passes = build(tmp_path, text)
    assert not passes and all(message in said for message in messages), said


def test_a_reference_left_in_a_page_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>See [Method][miseg.interface.Gone].</p><code>a[0][1]</code>")
    assert list(site_links.faults(tmp_path)) == ["index.html: [Method][miseg.interface.Gone] is not resolved"]
    with pytest.raises(ValueError, match="make docs"):
        list(site_links.faults(tmp_path / "docs"))


def test_readme_s_table_of_jobs_has_each_command_once() -> None:
    cells = [
        line.split("|")[1] for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `miseg ")
    ]
    named = [name.removeprefix("miseg ") for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert sorted(named) == sorted(COMMANDS)
