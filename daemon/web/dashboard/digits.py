"""Numbers in the query or the form of a page: a position, a version, a place."""

from __future__ import annotations

# Positions are bigints: no number of more digits is one.
MAX_DIGITS = 18


def number(text: str) -> int | None:
    """The number; None for what is none, which a page takes as if it was not there."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None
