"""Sentences of the floors below, in a merchant's words: there a webhook is a route, moments have microseconds, and what
to do next is told to programs.
"""

from __future__ import annotations

import re

from daemon.core.failures import failing

_ROUTE = re.compile(r"\b([Tt]he|[Tt]his|[Aa]|[Nn]o|[Nn]o such|[Aa]nother) route\b(?!\.[a-z*])")
_MICROSECONDS = re.compile(r"(:\d\d\.\d{3})\d{3} UTC")
_FOR_PROGRAMS = re.compile(r"(: see (GET /v1/|the paths of the API)|, which is empty: load one with hookledger ).*$")
# The name of an error, perhaps with a detail: see daemon.core.delivery.error_name. That is short, and looked for no
# further: a text that begins like it at many places would take minutes.
_ERROR = r"(?:[a-z]+_[a-z0-9_]+|timeout)(?:: .{0,1000})?"
_RECORDED = re.compile(rf"failed \((?P<in>{_ERROR})\);|the last error was (?P<last>{_ERROR})\.$", re.DOTALL)


def plain(sentence: str) -> str:
    """The sentence as it is shown."""
    text = _ROUTE.sub(r"\1 webhook", sentence)
    text = _MICROSECONDS.sub(r"\1 UTC", text)
    text = _FOR_PROGRAMS.sub("", text)
    return _RECORDED.sub(_named, text)


def _named(found: re.Match[str]) -> str:
    if found["in"]:
        return f"failed ({failing(found['in']).short});"
    return f"the last error was “{failing(found['last']).short}”."
