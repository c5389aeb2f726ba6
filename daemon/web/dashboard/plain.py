"""Sentences of the floors below, in a merchant's words: there a webhook is a route, and moments have microseconds."""

from __future__ import annotations

import re

from daemon.core.failures import failing

_ROUTE = re.compile(r"\b([Tt]he|[Tt]his|[Aa]|[Nn]o) route\b(?!\.[a-z*])")
_MICROSECONDS = re.compile(r"(:\d\d\.\d{3})\d{3} UTC")
_RECORDED = re.compile(
    r"\((?P<in>[a-z]+_[a-z0-9_]+|timeout)\)|the last error was (?P<last>[a-z]+_[a-z0-9_]+|timeout)\."
)


def plain(sentence: str) -> str:
    """The sentence as it is shown."""
    text = _ROUTE.sub(r"\1 webhook", sentence)
    text = _MICROSECONDS.sub(r"\1 UTC", text)
    return _RECORDED.sub(_named, text)


def _named(found: re.Match[str]) -> str:
    if found["in"]:
        return f"({failing(found['in']).short})"
    return f"the last error was “{failing(found['last']).short}”."
