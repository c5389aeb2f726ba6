"""From messages of a partition to a batch that is stored at once: each is an event, refused, or passed over.

Expressions that are too heavy for the event loop are evaluated by a process of their own. The message waits for that,
and those after it in its partition; other partitions and all else go on.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from daemon.catalogue import Catalogue
from daemon.config.event_sources import SourceFormat, SourceSection
from daemon.core.events import cloud_event
from daemon.core.events.event import MAX_SKEW, IncomingEvent, TypeTest
from daemon.core.messages import message, reading
from daemon.core.messages.mapping import MappingFailed, MessageMapping
from daemon.core.messages.message import Mappable, SourceMessage
from daemon.core.messages.reading import MessageResult
from daemon.core.webhook.expression import TooHeavy
from daemon.expressions.evaluator import Evaluator
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.sources.rules import reason_of, rules_of
from eventstore.domain_events.events import NewEvent
from eventstore.sources.positions import JudgeRepeated, MessageBatch, Refusal

# The event loop runs other tasks after so many bytes. Each message counts OVERHEAD_BYTES more.
YIELD_AFTER_BYTES = 1 << 16
OVERHEAD_BYTES = 512


@dataclass(slots=True, kw_only=True)
class MadeBatch:
    """A batch of `count` messages, those that its events are, and how to judge what stands there under their ids."""

    batch: MessageBatch
    count: int = 0
    messages: list[SourceMessage] = field(default_factory=list)
    judge_repeated: JudgeRepeated | None = None


class EventMaker:
    """Makes events of the messages of one source, of at most `max_bytes`."""

    def __init__(
        self,
        name: str,
        section: SourceSection,
        *,
        max_bytes: int,
        catalogue: Catalogue,
        evaluator: Evaluator,
        now: Callable[[], datetime],
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self._name = name
        self._section = section
        self.max_bytes = max_bytes
        self._rules = rules_of(section, max_bytes=max_bytes)
        self._catalogue = catalogue
        self._evaluator = evaluator
        self._now = now
        self._tunables = tunables

    async def batch(
        self, messages: Sequence[SourceMessage], *, partition_id: int, begin: int, seconds: float = math.inf
    ) -> MadeBatch:
        """What messages become that follow each other: after `seconds`, which expressions may take, the first ones.

        Raises StoreUnavailable.
        """
        made = MadeBatch(batch=MessageBatch(partition_id=partition_id, begin=begin, end=begin))
        ends_at, now = time.monotonic() + seconds, self._now()
        types = await self._catalogue.known_types()
        type_test = None if types is None else types.problem
        unyielded_bytes = 0
        for each in messages:
            if made.count and time.monotonic() > ends_at:
                break
            result = await self._result(each, type_test, now)
            if isinstance(result, IncomingEvent):
                made.batch.events.append(self._event(each, result, now))
                made.batch.offsets.append(each.offset)
                made.messages.append(each)
            elif isinstance(result, tuple):
                made.batch.refusals.append(self.refusal(each, reason_of(self._name, self._section, result)))
            else:
                made.batch.filtered += 1
            made.count += 1
            made.batch.end = each.offset + 1
            unyielded_bytes += len(each.value or b"") + OVERHEAD_BYTES
            if unyielded_bytes >= YIELD_AFTER_BYTES:
                await asyncio.sleep(0)
                unyielded_bytes = 0
        if self._section.format is SourceFormat.CLOUDEVENTS:
            made.judge_repeated = self._judge(made)
        return made

    async def event(self, given: SourceMessage) -> NewEvent | str | None:
        """The event that one message is, the reason why it is none, or None if the filter passes over it."""
        types = await self._catalogue.known_types()
        now = self._now()
        result = await self._result(given, None if types is None else types.problem, now)
        if isinstance(result, IncomingEvent):
            return self._event(given, result, now)
        return reason_of(self._name, self._section, result) if isinstance(result, tuple) else None

    def refusal(self, given: SourceMessage, reason: str) -> Refusal:
        """A message that is refused for a reason."""
        return Refusal(
            offset=given.offset,
            reason=reason,
            message_at=message.time_of(given),
            key=given.key,
            value=given.value,
        )

    async def _result(self, given: SourceMessage, type_test: TypeTest | None, now: datetime) -> MessageResult:
        mapping = self._rules.mapping
        allowance = None if mapping is None else self._tunables.loop_allowance()
        try:
            return reading.read(given, self._rules, now=now, type_test=type_test, allowance=allowance)
        except TooHeavy:
            if mapping is None:
                raise
            return await self._evaluated(given, mapping, type_test, now)

    async def _evaluated(
        self, given: SourceMessage, mapping: MessageMapping, type_test: TypeTest | None, now: datetime
    ) -> MessageResult:
        prepared = reading.to_map(given, self._rules)
        if not isinstance(prepared, Mappable):
            return prepared
        turn = f"source {self._name}"
        try:
            text = await self._evaluator.mapped(turn, prepared, mapping, max_bytes=self._rules.max_bytes)
        except MappingFailed as error:
            return reading.of_failure(error)
        return reading.of_mapped(text, self._rules, now=now, type_test=type_test)

    def _event(self, given: SourceMessage, incoming: IncomingEvent, now: datetime) -> NewEvent:
        return NewEvent(
            tenant=incoming.tenant,
            id=made_id(self._name, given) if incoming.id is None else incoming.id,
            type=incoming.type,
            data=incoming.data,
            occurred_at=incoming.occurred_at or _time_of(given, now),
            context=incoming.context,
            snapshot=incoming.snapshot,
            backfill=incoming.backfill,
        )

    def _judge(self, made: MadeBatch) -> JudgeRepeated:
        def judge(places: Sequence[int], stored: Mapping[tuple[str, str], bytes]) -> dict[int, Refusal]:
            refused: dict[int, Refusal] = {}
            for place in places:
                event = made.batch.events[place]
                source = cloud_event.source_in(event.context)
                problem = cloud_event.of_another_source(stored.get((event.tenant, event.id)), source)
                if problem is not None:
                    reason = reason_of(self._name, self._section, (problem,))
                    refused[place] = self.refusal(made.messages[place], reason)
            return refused

        return judge


def _time_of(given: SourceMessage, now: datetime) -> datetime | None:
    """When a message says that it was written, for an event that does not say when it happened. So what lies in Kafka
    since before a route was made is not sent to it.
    """
    at = message.time_of(given)
    return at if at is not None and at <= now + MAX_SKEW else None


def made_id(source: str, given: SourceMessage) -> str:
    """The id for an event without one: the same whenever the message is taken again, and another one for what stands
    there if the topic is made anew.
    """
    place = f"{source}\n{given.topic}\n{given.partition}\n{given.offset}\n{given.timestamp}"
    return "evt_" + hashlib.sha256(place.encode()).hexdigest()[:32]
