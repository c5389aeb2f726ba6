"""Looks into the data of events for a field, to answer a request: a little of it here, much by the evaluator.

Parsing holds the interpreter's lock, so a thread would hold up the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from daemon.core.events.field_condition import FieldCondition
from daemon.core.webhook.payload import MAX_DOCUMENT_BYTES
from daemon.expressions.judging import FilterPlaces

# What one turn looks through. A payload of this length that consists of numbers takes 50 ms.
TURN_BYTES = 256 << 10


async def fitting(
    places: FilterPlaces | None, tenant: str, payloads: Sequence[bytes], condition: FieldCondition
) -> list[bool]:
    """Which payloads a condition is true of, in the same order; without places all are looked into here.

    None larger than expressions read fits. Raises Saturated.
    """
    fits: list[bool] = []
    if places is None or sum(map(len, payloads)) <= places.allowance().document_bytes:
        for turn in _turns(payloads):
            fits += map(condition.holds, turn)
            await asyncio.sleep(0)
        return fits
    async with places.waiting():  # for all turns together: the caller may hold a place that others wait for
        for turn in _turns(payloads):
            fits += await places.evaluator.fitting(places.turn(tenant), turn, condition)
    return fits


def _turns(payloads: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The payloads by turns, one at least in each. Instead of one that is too large there is one that never fits."""
    turn: list[bytes] = []
    turn_bytes = 0
    for payload in payloads:
        read = payload if len(payload) <= MAX_DOCUMENT_BYTES else b""
        if turn and turn_bytes + len(read) > TURN_BYTES:
            yield turn
            turn, turn_bytes = [], 0
        turn.append(read)
        turn_bytes += len(read)
    if turn:
        yield turn
