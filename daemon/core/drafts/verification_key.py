"""Checks a verification key that a merchant brings along.

A merchant who comes from another provider keeps the key, so that no receiver has to change. Any text will do, since the
first scheme signs with the text as it is. Only what nobody can copy without a mistake is refused.
"""

from __future__ import annotations

import unicodedata

MIN_CHARACTERS = 16
MAX_CHARACTERS = 256

# Control characters, half characters, and the separators of lines and paragraphs.
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}


def key_problem(text: str) -> str | None:
    """Why a text may be no key, None if it may. The text itself is never part of the message."""
    if not MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS:
        return f"has {len(text)} characters, {MIN_CHARACTERS} to {MAX_CHARACTERS} are allowed: copy the whole key"
    if any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        return "has a control character or a line end: copy the key alone"
    if text != text.strip():
        return "begins or ends with a blank: copy the key alone"
    return None
