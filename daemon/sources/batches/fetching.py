"""Getting the messages that have come in: so many bytes at a time, and past what the client cannot read.

The one thing to know: the client does not say in which partition something lies that it cannot read, and has lost by
then what it read of others in the same call. So all are placed anew, and for a while each is asked by itself, message
by message. The partition in which it lies is put aside, and tried again from time to time; the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from daemon.core.messages import message
from daemon.core.messages.message import SourceMessage
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from daemon.sources.batches.making import OVERHEAD_BYTES
from daemon.sources.kafka.client import KafkaClient, MessageConsumer, PartitionPlace
from daemon.sources.partitions import SourcePartitions

# More are asked for until there are so many bytes: what was sent packed may be large.
FETCHED_BYTES = 16 << 20
# So many at once, each of which may be as large as a batch that is unpacked. Fewer cost more than they are worth.
AT_ONCE = 4
# For how long each partition is asked by itself.
CAREFUL_SECONDS = 60.0
CAREFUL_MESSAGES = 100
_PAUSE_SECONDS = 0.05

Fetched = dict[PartitionPlace, list[SourceMessage]]


class MessageFetcher:
    """Gets the messages of one session. `stopping` ends a wait."""

    def __init__(
        self,
        client: KafkaClient,
        consumer: MessageConsumer,
        partitions: SourcePartitions,
        stopping: Wakeup,
        *,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self._client = client
        self._consumer = consumer
        self._partitions = partitions
        self._stopping = stopping
        self._tunables = tunables
        self._careful_until = float("-inf")
        self._error: Exception | None = None

    async def fetched(self) -> Mapping[PartitionPlace, list[SourceMessage]]:
        """What has come in, or comes within a turn. Raises what the client raises if a broker fails or refuses."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        partitions = self._partitions
        before = dict(partitions.placed)
        is_careful = time.monotonic() < self._careful_until or partitions.aside
        try:
            found = await (self._one_by_one() if is_careful else self._at_once())
        except self._client.failures:
            raise
        except Exception:  # noqa: BLE001 - whatever it makes of bytes that it cannot read
            self._careful_until = time.monotonic() + CAREFUL_SECONDS
            partitions.displace(partitions.assigned)
            return {}
        moved = [place for place in found if partitions.placed.get(place) is not before.get(place)]
        partitions.displace(moved)  # placed anew meanwhile: nobody knows which of these are from before
        return {place: messages for place, messages in found.items() if place not in moved}

    async def give_sign_of_life(self) -> None:
        """For a time in which nothing is taken: the group takes a process that does not ask for dead."""
        got = await self._consumer.getmany(timeout_ms=0, max_records=1)
        self._partitions.displace(got)  # placed meanwhile

    async def _at_once(self) -> Fetched:
        found: Fetched = {}
        size_bytes, wait_ms = 0, int(self._tunables.source_turn_seconds * 1000)
        while size_bytes < FETCHED_BYTES:
            try:
                part = await self._consumer.getmany(timeout_ms=wait_ms, max_records=AT_ONCE)
            except self._client.failures as error:
                if not found:
                    raise
                self._keep(error)
                break
            if not part:
                break
            for place, messages in part.items():
                found.setdefault(place, []).extend(messages)
                size_bytes += _size_bytes(messages)
            wait_ms = 0
        return found

    async def _one_by_one(self) -> Fetched:
        found: Fetched = {}
        size_bytes = 0
        for place in list(self._partitions.placed):
            if size_bytes >= FETCHED_BYTES:
                break
            messages = await self._some_of(place, is_first=not found)
            if messages:
                found[place] = messages
                size_bytes += _size_bytes(messages)
        if not self._partitions.placed:
            await self.give_sign_of_life()
        if not found:
            await self._stopping.wait(_PAUSE_SECONDS)
        return found

    async def _some_of(self, place: PartitionPlace, *, is_first: bool) -> list[SourceMessage]:
        """Messages of one partition. `is_first` if none was found of others."""
        messages: list[SourceMessage] = []
        try:
            while len(messages) < CAREFUL_MESSAGES and _size_bytes(messages) < FETCHED_BYTES:
                part = await self._consumer.getmany(place, timeout_ms=0, max_records=1)
                if not part:
                    break
                messages += part[place]
        except self._client.failures as error:
            if is_first and not messages:
                raise
            self._keep(error)
        except Exception as error:  # noqa: BLE001 - as above
            if not messages:
                self._put_aside(place, error)
        return messages

    def _keep(self, error: Exception) -> None:
        """Keeps what is wrong with other partitions until the messages are taken that were found: the client tells it
        once, and has these no more. Raises what is wrong with all.
        """
        if not self._client.is_of_single_partitions(error):
            raise error
        self._error = error

    def _put_aside(self, place: PartitionPlace, error: Exception) -> None:
        self._careful_until = time.monotonic() + CAREFUL_SECONDS
        position = self._partitions.placed.get(place)
        if position is not None:
            fault = str(self._client.unreadable(error, place, position.next_offset))
            self._partitions.put_aside(place, fault, seconds=self._tunables.source_reconnect_seconds)


def _size_bytes(messages: Sequence[SourceMessage]) -> int:
    return sum(message.size_bytes(each) + OVERHEAD_BYTES for each in messages)
