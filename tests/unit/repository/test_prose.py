"""Sentences are plain: subject, verb, object. Some turns of phrase that keep coming back are refused."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Both keep what a version once had.
HISTORY = ("eventstore/migrations/", "tests/postgres/server/older_schemas/")
THIS = "tests/unit/repository/test_prose.py"


def texts() -> dict[str, str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return {
        path: (ROOT / path).read_text()
        for path in listed
        if path.endswith((".py", ".md", ".sql", ".html", ".txt", ".toml", ".yaml"))
        and not path.startswith(HISTORY)
        and path != THIS
        and (ROOT / path).exists()
    }


@pytest.mark.parametrize(
    ("phrase", "instead"),
    [
        (r"(?i)\bwhoever\b", "name who it is: a caller, a reader, the operator"),
        (r"(?m)^\s*(?:#|--|[*-] |\"\"\")?\s*Of (?!course\b)[a-z]", "begin with the subject, not with 'Of'"),
        (r"[.;:] Of (?!course\b)[a-z]", "begin with the subject, not with 'Of'"),
        (r"\b(?:he|him|she|her)\s", "people are 'they'"),
    ],
)
def test_no_sentence_is_turned_around(phrase: str, instead: str) -> None:
    found = [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match.group().strip()}"
        for path, text in texts().items()
        for match in re.finditer(phrase, text)
    ]
    assert found == [], instead
