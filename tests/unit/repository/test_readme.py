"""The documents of the repository: what they link to is there, and nobody cites one that is not.

That the snippets to which README leads receivers work is tests/acceptance/test_snippets.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from daemon.web.dashboard.webhooks.snippets import LANGUAGES

ROOT = Path(__file__).parents[3]
SNIPPETS = ROOT / "daemon" / "data" / "snippets"
README = ROOT / "README.md"
MAX_README_LINES = 200

# Where the files of the repository lie: beside them there may be a virtual environment, or caches.
FOLDERS = (".ci", ".github", "daemon", "deploy", "eventstore", "tests")
PICTURES = {".png", ".svg"}

_LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_HEADING = re.compile(r"^#{1,6} +(.*?) *#* *$", re.MULTILINE)
_DOCUMENT = re.compile(r"(?<![\w/.:-])[\w./-]*\w\.md\b")


def files() -> Iterator[Path]:
    """Every file that belongs to the repository."""
    yield from (path for path in ROOT.iterdir() if path.is_file())
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and "screenshots" not in path.parts:
                yield path


FILES = sorted(files())
DOCUMENTS = [path for path in FILES if path.suffix == ".md"]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def links(document: Path) -> list[str]:
    """What a document links to in the repository: paths, anchors, and both."""
    targets = _LINK.findall(_CODE.sub("`code`", _FENCE.sub("", document.read_text())))
    return [target for target in targets if not re.match("[a-z]+:", target)]


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub makes of the headings of a document."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(_FENCE.sub("", document.read_text())):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def is_there(link: str, document: Path) -> bool:
    path, _, anchor = link.partition("#")
    target = (document.parent / unquote(path)).resolve() if path else document
    if not target.exists():
        return False
    return not anchor or (target.suffix == ".md" and unquote(anchor) in anchors(target))


def is_document(cited: str, by: Path) -> bool:
    """True if the citation names a document by its path from the root, or from the file that cites it."""
    places = {(start / cited).resolve() for start in (ROOT, by.parent)}
    return not places.isdisjoint(DOCUMENTS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(document: Path) -> None:
    assert [link for link in links(document) if not is_there(link, document)] == []


def test_no_document_is_cited_that_is_not_in_the_repository() -> None:
    missing = [
        f"{named(path)}: {cited}"
        for path in FILES
        if path.suffix not in PICTURES
        for cited in _DOCUMENT.findall(path.read_text(errors="replace"))
        if not is_document(cited, path)
    ]
    assert missing == []


def test_readme_is_short_enough_to_be_read() -> None:
    assert len(README.read_text().splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("name", LANGUAGES)
def test_readme_leads_to_each_snippet_and_says_how_to_get_the_raw_body(name: str) -> None:
    language = LANGUAGES[name]
    row = f"| {language.title} | [{language.file}]({named(SNIPPETS / language.file)}) | {language.raw_body} |"
    assert row in README.read_text().splitlines()
    assert (SNIPPETS / language.file).read_text() == language.function


def test_every_snippet_has_its_place() -> None:
    assert {path.name for path in SNIPPETS.iterdir() if path.is_file()} == {each.file for each in LANGUAGES.values()}
