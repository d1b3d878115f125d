"""What the pages say of the repository is there: links, anchors, files, commands and pictures."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from file_checks import end_of_file, large_files
from gwm.cli.main import _parser

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]
FILE = re.compile(
    r"`((?:gwm_core|ros2_ws|benchmarks|examples|tests|docs|launch|urdf|models|docker)/[\w./-]+)`"
)


def text_of(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_named_files_exist(page):
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"(https?|mailto):", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    if page.name not in ("benchmarks.md", "CHANGELOG.md"):  # they name folders that a run makes
        missing += [name for name in FILE.findall(text_of(page)) if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("name", ["architecture.md", "glossary.md"])
def test_named_functions_are_in_the_linked_file(name):
    """A link to code may be followed by names: [file](path) `Name`, `Class.method`."""
    page = ROOT / "docs" / name
    missing = []
    for path, names in re.findall(
        r"\]\((\.\./[\w./-]+\.(?:py|c))\)((?:,? ?`[\w.]+`)+)", text_of(page)
    ):
        code = (page.parent / path).read_text()
        for part in re.findall(r"[\w]+", " ".join(re.findall(r"`([\w.]+)`", names))):
            if not re.search(rf"\b{part}\b", code):
                missing.append(f"{path}: {part}")
    assert not missing


def test_every_page_is_reachable_from_the_readme():
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop().resolve()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        todo += [
            page.parent / link
            for link in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", page.read_text())
        ]
    assert not set(DOCS) - seen


def test_the_readme_is_one_page_with_the_test_command():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 90 and any("./gwm test" in line for line in lines)
    assert (ROOT / "docs/demo.webp").stat().st_size < 3e6


def test_every_command_is_in_the_table_of_commands():
    page = (ROOT / "docs/commands.md").read_text()
    choices = next(a.choices for a in _parser()._actions if a.choices)
    missing = [name for name in choices if f"`./gwm {name}" not in page]
    assert not missing


def test_the_changelog_has_the_version_of_the_package():
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M).group(1)
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text and f"## [{version}]" in text


def test_files_pass_the_checks_of_the_pre_commit_hooks():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert all(repo["repo"] == "local" for repo in hooks)  # nothing is downloaded
    listed = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    paths = [ROOT / name for name in listed.stdout.split()]
    texts = (".py", ".md", ".yaml", ".xml", ".js", ".css", ".html", ".toml", ".c", ".csv")
    paths = [path for path in paths if path.is_file() and not path.is_symlink()]
    assert not [path for path in paths if path.suffix in texts and not end_of_file(path)]
    assert not [p for p in paths if ROOT / "models" not in p.parents and not large_files(p)]
