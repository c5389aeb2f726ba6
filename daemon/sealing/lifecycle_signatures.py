"""The route log as the seals need it: whole, each event signed by us, and which routes are deleted.

A row that was appended without our key is told by its signature, or by the lack of one. The first signature vouches for
all before it: it is of the first event that a version with signatures appended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from typing import NamedTuple
from uuid import UUID

from daemon.core.routing.route import LifecycleEventType
from daemon.core.sealing.head import is_signed, lifecycle_text
from daemon.sealing.report import SealReport
from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ChainBroken
from eventstore.route_log import signatures
from eventstore.route_log.chain import Chain
from eventstore.route_log.log import RouteEvent

# So many signatures take about six milliseconds to verify.
_AT_ONCE = 100


class _Signed(NamedTuple):
    event: RouteEvent
    signature: bytes


async def deleted_routes(database: Database, report: SealReport, keys: Collection[bytes]) -> set[UUID]:
    """The deleted routes. Adds a finding for the first event that breaks the chain or is not signed by `keys`; without
    keys only for one without a signature.
    """
    deleted: set[UUID] = set()
    batch: list[_Signed] = []
    first, last = await signatures.first(database), await route_log.last_position(database)
    signed = signatures.read(database)
    is_told = False
    chain = Chain()
    try:
        async for event in route_log.read(database):
            chain.check(event)
            if event.type == LifecycleEventType.DELETED:
                deleted.add(event.route_id)
            # What is appended meanwhile may have a signature that was not read.
            if first is None or not first <= event.pos <= last or is_told:
                continue
            pos, signature = await _next(signed)
            if pos != event.pos:
                report.add(
                    "route_event",
                    f"position {event.pos} of the route log has no signature: no command of ours appended it",
                )
                is_told = True
                continue
            batch.append(_Signed(event, signature))
            if len(batch) == _AT_ONCE:
                is_told = await _verify(batch, report, keys)
                batch.clear()
    except ChainBroken as error:
        report.add("route_event", str(error))
    if not is_told:
        await _verify(batch, report, keys)
    return deleted


async def _next(signed: AsyncIterator[tuple[int, bytes]]) -> tuple[int, bytes]:
    async for each in signed:
        return each
    return 0, b""


async def _verify(batch: Sequence[_Signed], report: SealReport, keys: Collection[bytes]) -> bool:
    """Adds a finding for the first wrong signature. True if there is one."""
    wrong = await asyncio.to_thread(_first_wrong, batch, keys)
    if wrong is None:
        return False
    report.add("route_event", f"position {wrong} of the route log is not signed by a key of ours")
    return True


def _first_wrong(batch: Sequence[_Signed], keys: Collection[bytes]) -> int | None:
    for event, signature in batch:
        text = lifecycle_text(event.pos, event.hash)
        if keys and not any(is_signed(key, text, signature) for key in keys):
            return event.pos
    return None
