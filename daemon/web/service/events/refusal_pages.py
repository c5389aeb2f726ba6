"""Pages of the messages that became no event: the cursor of a page, and what is shown of bytes."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.web.http import paging
from eventstore.postgres.connect import Database
from eventstore.sources import refusals
from eventstore.sources.refusals import KeptRefusal, RefusalPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalPage:
    """Refused messages, the newest first; `next` is the cursor of the next page, None if there is none."""

    items: list[KeptRefusal]
    next: str | None


async def page(database: Database, cursor: str | None, *, limit: int) -> RefusalPage:
    """The first page, or the one that a cursor leads to. Raises Invalid for a cursor that no page has returned."""
    after = None if cursor is None else _place(cursor)
    found = await refusals.page(database, after=after, limit=limit + 1)
    return RefusalPage(items=found[:limit], next=_cursor(found[limit - 1]) if len(found) > limit else None)


def text(raw: bytes | None) -> str | None:
    """Bytes as text; what is no text is replaced."""
    return None if raw is None else raw.decode(errors="replace")


def _cursor(refusal: KeptRefusal) -> str:
    return paging.encoded(f"{paging.micros_of(refusal.at)}.{refusal.partition_id}.{refusal.offset}")


def _place(cursor: str) -> RefusalPlace:
    try:
        micros, partition_id, offset = map(int, (paging.decoded(cursor) or "").split("."))
        at = paging.at_micros(micros)
    except (ValueError, OverflowError) as error:
        raise paging.unknown_cursor() from error
    if not (0 <= partition_id < 1 << 31 and 0 <= offset < 1 << 63):
        raise paging.unknown_cursor()
    return RefusalPlace(at=at, partition_id=partition_id, offset=offset)
