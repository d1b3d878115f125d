"""The prose of README, CONTRIBUTING and docs: short lines and sentences, active voice, no words
that this project does not use.

The prose linter `vale` downloads its program when it starts, so these few rules stand here.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LOG = "benchmarks.md"  # figures as they were measured: sentence length and voice are free
LINE = 100  # columns; tables, code and links may be longer
WORDS = 32  # in a sentence
PASSIVE = 0.15  # of a page's sentences, at most
IRREGULAR = (
    "built bound brought caught chosen cut drawn driven found given gone held hidden kept known"
    " done laid led left lost made meant met moved paid put read run said seen sent set shown shut"
    " spent sped spoken stood struck stuck taken taught thrown told understood won written worn"
)
PARTICIPLE = re.compile(
    r"\b(is|are|was|were|be|been|being) (not |also |then |only |never |\w+ly )?"
    rf"(\w{{2,}}ed|{'|'.join(IRREGULAR.split())})\b"
)
BANNED = re.compile(
    r"\b(brain|judged?|referee|sealed?|half of the graph|rig|staging|staged|riders?|ridden|glance|"
    r"foresight|whoever|likewise|mends?|latch(es|ed)?|wish(es|ed)?|film|moments?|nobody's|judges|"
    r"surprise|beats?|peek(ing)?|twin|magic|hand back|by and by|so to speak)\b",
    re.I,
)
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|al|vs|approx)\.")


def sentences(page: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of every sentence in paragraphs and lists, tables left out."""
    tokens, table = MarkdownIt("commonmark").enable("table").parse(page.read_text()), False
    for token in tokens:
        table = (table or token.type == "table_open") and token.type != "table_close"
        if token.type != "inline" or table:
            continue
        parts = []
        for child in token.children:
            text = {"code_inline": "Code", "softbreak": " ", "hardbreak": " "}.get(child.type)
            parts.append(text or (child.content if child.type == "text" else ""))
        text = ABBREVIATION.sub(r"\1", "".join(parts))
        for sentence in re.split(r"(?<=[.!?:;])\s+(?=[A-Z0-9`*(])", text):
            yield token.map[0] + 1, sentence


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_prose(page):
    found, passive, total = [], [], 0
    for line, sentence in sentences(page):
        where = f"{page.relative_to(ROOT)}:{line}: "
        total += 1
        count = len(re.findall(r"[\w'%.-]*\w", sentence))
        if count > WORDS and page.name != LOG:
            found.append(f"{where}sentence length ({count} words): {sentence}")
        if banned := BANNED.search(sentence):
            found.append(f"{where}word ({banned.group()}): {sentence}")
        if PARTICIPLE.search(sentence):
            passive.append(f"{where}passive voice: {sentence}")
    if len(passive) > max(1, PASSIVE * total) and page.name != LOG:
        found += [f"{len(passive)} of {total} sentences are passive", *passive]
    code = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        code ^= line.lstrip().startswith("```")
        long = len(line) > LINE and not code and not line.startswith("|") and "](" not in line
        if long and not re.fullmatch(r"\s*`[^`]+`[.,:]?", line):
            found.append(f"{page.relative_to(ROOT)}:{number}: line length ({len(line)}): {line}")
    assert not found, "\n".join(found)
