"""The beginnings of long texts, for pages that must not become long themselves."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import escape

from daemon.web.dashboard import json_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """The beginning of a text, or all of it if `is_whole`."""

    text: str
    is_whole: bool


def beginning(text: str, most_bytes: int) -> Excerpt:
    """As much as takes so many bytes in a page: there a quote takes five."""
    low, high = 0, min(len(text), most_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        if room_of(text[:middle]) <= most_bytes:
            low = middle
        else:
            high = middle - 1
    return Excerpt(text=text[:low], is_whole=low == len(text))


def room_of(text: str) -> int:
    """How many bytes a text takes in a page."""
    return len(escape(text).encode("utf-8", "replace"))


def laid_out(text: str, most_bytes: int) -> Excerpt:
    """The same of JSON, laid out to be read."""
    return beginning(json_text.laid_out(text, most=most_bytes), most_bytes)
