"""The commands that the documents of the repository tell a reader to type."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("[a-z]*/*.md"), *(ROOT / ".github").glob("*.md")], key=str)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")
_SEPARATORS = {"&&", "||", "|", ";"}
_REDIRECTIONS = {">", ">>", "<"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A command as it is typed. `is_whole` is False for a mention in a sentence, which may leave arguments out."""

    words: tuple[str, ...]
    where: str
    is_whole: bool

    @property
    def program(self) -> str:
        return Path(self.words[0]).name

    def __str__(self) -> str:
        return f"{self.where}: {' '.join(self.words)}"


def blocks(document: Path, *, language: str = "sh") -> list[str]:
    """The blocks of a language in a document. Those without one are pictures."""
    return [text for found, text in _FENCE.findall(document.read_text()) if found == language]


def section(document: Path, heading: str) -> list[str]:
    """The shell blocks of a section."""
    text = re.split(rf"^## {re.escape(heading)}$", document.read_text(), flags=re.MULTILINE)[1]
    return [block for found, block in _FENCE.findall(re.split("^## ", text, flags=re.MULTILINE)[0]) if found == "sh"]


def commands(script: str) -> Iterator[tuple[str, ...]]:
    """The commands of a script, without comments and redirections."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        is_file = False
        for word in lexer:
            if word in _SEPARATORS:
                yield tuple(words)
                words = []
            elif is_file or word in _REDIRECTIONS:
                is_file = word in _REDIRECTIONS
            else:
                words.append(word)
        if words:
            yield tuple(words)


def typed() -> list[Typed]:
    """Every command in a block, and every mention of our own."""
    found = []
    for document in DOCUMENTS:
        where = str(document.relative_to(ROOT))
        for block in blocks(document):
            found += [Typed(words=words, where=where, is_whole=True) for words in commands(block)]
        for code in _CODE.findall(_FENCE.sub("", document.read_text())):
            words = code.split()
            if len(words) > 1 and words[0] == "hookledger":
                found.append(Typed(words=tuple(words), where=where, is_whole=False))
    return found + list(_of_deployment())


def _of_deployment() -> Iterator[Typed]:
    """What the unit and the image run."""
    unit, image = (DEPLOY / "hookledger.service").read_text(), (DEPLOY / "Dockerfile").read_text()
    for line in re.findall("^ExecStart=(.*)$", unit, re.MULTILINE):
        yield Typed(words=tuple(line.split()), where="deploy/hookledger.service", is_whole=True)
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])$", image, re.MULTILINE)
    (default,) = re.findall(r"^CMD (\[.*\])$", image, re.MULTILINE)
    (check,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", image, re.MULTILINE)
    for words in ([*json.loads(entry), *json.loads(default)], json.loads(check)):
        yield Typed(words=tuple(words), where="deploy/Dockerfile", is_whole=True)
