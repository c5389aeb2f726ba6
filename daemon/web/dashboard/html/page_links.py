"""Links between the pages of a list: the first one, the one before, the next.

Cursors lead downwards alone. So a link to the next page takes along the cursors of the pages before it (`trail`), and
the way back leads through the same pages. Only the last TRAIL pages of a long way are known; before those there is the
first page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

TRAIL = 10
# No cursor has these characters.
_SEPARATOR = "~"
_FORGOTTEN = "!"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLinks:
    """The addresses of other pages, None where there is none. On the second page the previous one is the first."""

    first: str | None
    previous: str | None
    following: str | None


def of(query: Mapping[str, str], here: Callable[..., str], after: object) -> PageLinks:
    """The links of the page that `query` asks for. `after` is the cursor of the next page, None if there is none.
    `here` makes the address of a page from what it changes in the query.
    """
    current = query.get("after") or None
    trail = query["trail"].split(_SEPARATOR) if query.get("trail") else []
    following = None
    if after is not None:
        way = [*trail, current] if current is not None else []
        following = here(after=after, trail=_written(way))
    if current is None:
        return PageLinks(first=None, previous=None, following=following)
    first = here(after=None, trail=None)
    if not trail:
        return PageLinks(first=None, previous=first, following=following)
    *before, last = trail
    previous = here(after=last, trail=_written(before)) if last != _FORGOTTEN else None
    return PageLinks(first=first, previous=previous, following=following)


def _written(way: list[str]) -> str | None:
    if len(way) > TRAIL:
        way = [_FORGOTTEN, *way[-TRAIL:]]
    return _SEPARATOR.join(way) or None
