"""Taking refused messages again, once whatever was wrong with the mapping or the catalogue is mended.

Only their places and beginnings are kept, so they are read from Kafka once more. Each is settled by itself, and at most
once, also if somebody else does the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum

from daemon.core.messages import message
from daemon.core.messages.message import SourceMessage
from daemon.sources.batches.making import EventMaker, MadeBatch
from daemon.sources.kafka.peeking import Peek
from daemon.sources.rules import VALUE_REFUSED
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ValueRefused
from eventstore.sources import refusals
from eventstore.sources.positions import BEGINNING_BYTES
from eventstore.sources.refusals import KeptRefusal


class RetriedAs(StrEnum):
    """What became of a refused message."""

    EVENT = "event"
    REPEATED = "repeated"
    FILTERED = "filtered"
    REFUSED = "refused"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """One refused message that was tried again. `reason` says why it is refused still, or gone."""

    refusal: KeptRefusal
    result: RetriedAs
    reason: str = ""


async def retry(database: Database, peek: Peek, maker: EventMaker, source: str) -> AsyncIterator[Retried]:
    """Takes all refused messages of a source again, one after the other. Raises SourceFault and StoreUnavailable."""
    async for refusal in refusals.of_source(database, source):
        found = await peek.at(refusal.topic, refusal.partition, refusal.offset)
        if found is None or not _was_refused(found, refusal):
            reason = "Kafka does not have it any more" + ("" if found is None else ": another message is there")
            yield Retried(refusal=refusal, result=RetriedAs.GONE, reason=reason)
            continue
        made = await maker.batch([found], partition_id=refusal.partition_id, begin=refusal.offset)
        if made.batch.refusals:
            (refused,) = made.batch.refusals
            await refusals.renew(database, refusal, refused.reason)
            yield Retried(refusal=refusal, result=RetriedAs.REFUSED, reason=refused.reason)
            continue
        yield await _settled(database, refusal, made)


def _was_refused(found: SourceMessage, refusal: KeptRefusal) -> bool:
    """Whether a message is the one that was refused, and not one in its place since the topic was made anew."""
    beginnings = [None if part is None else part[:BEGINNING_BYTES] for part in (found.key, found.value)]
    there = (message.time_of(found), *beginnings, len(found.value or b""))
    return there == (refusal.message_at, refusal.key, refusal.beginning, refusal.size_bytes)


async def _settled(database: Database, refusal: KeptRefusal, made: MadeBatch) -> Retried:
    event = made.batch.events[0] if made.batch.events else None
    try:
        settled = await refusals.settle(database, refusal, event, judge_repeated=made.judge_repeated)
    except ValueRefused:
        settled = VALUE_REFUSED
    if isinstance(settled, str):
        return Retried(refusal=refusal, result=RetriedAs.REFUSED, reason=settled)
    if settled:
        return Retried(refusal=refusal, result=RetriedAs.EVENT)
    return Retried(refusal=refusal, result=RetriedAs.FILTERED if event is None else RetriedAs.REPEATED)
