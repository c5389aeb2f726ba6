"""Topics and messages of a real broker, as a producer and an administrator have them; and reading them by ourselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self
from uuid import uuid4

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete  # type: ignore[import-untyped]
from aiokafka.record.util import calc_crc32c  # type: ignore[import-untyped]

# Where a batch has the checksum of all that follows.
_CRC = slice(17, 21)


def event_text(number: int, *, tenant: str = "acme", **more: object) -> bytes:
    """An event as POST /v1/events takes it."""
    event = {"tenant": tenant, "type": "order.create", "id": f"e{number}", "data": {"n": number}, **more}
    return orjson.dumps(event)


class Kafka:
    """`linger_ms` is for how long the producer waits for more messages before it sends some."""

    def __init__(self, address: str, *, linger_ms: int = 5) -> None:
        self.address = address
        self._linger_ms = linger_ms

    async def __aenter__(self) -> Self:
        self._admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await self._admin.start()
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self.address, max_request_size=4 << 20, linger_ms=self._linger_ms
        )
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()
        await self._admin.close()

    async def topic(self, *, partitions: int = 1, name: str | None = None, **settings: str) -> str:
        """Makes a topic. Settings have underscores for dots."""
        name = name or f"orders-{uuid4().hex[:8]}"
        configs = {key.replace("_", "."): value for key, value in settings.items()}
        await self._admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
        await self._producer.client._wait_on_metadata(name)
        return name

    async def grow(self, topic: str, *, partitions: int) -> None:
        """Gives a topic more partitions."""
        await self._admin.create_partitions({topic: NewPartitions(partitions)})
        while len(self._producer.client.cluster.partitions_for_topic(topic) or ()) < partitions:
            await self._producer.client.force_metadata_update()

    async def delete(self, topic: str) -> None:
        await self._admin.delete_topics([topic])

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """What retention does to old messages."""
        await self._admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)})

    async def send(
        self,
        topic: str,
        *values: bytes | None,
        partition: int = 0,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> list[int]:
        """Sends messages in one order, and returns their offsets."""
        waiting = [
            await self._producer.send(topic, value, partition=partition, key=key, headers=list(headers))
            for value in values
        ]
        return [(await each).offset for each in waiting]

    async def send_packed(self, topic: str, *values: bytes, codec: str) -> list[int]:
        """Sends messages in one compressed batch, however large they are, and returns their offsets."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.address, compression_type=codec, max_batch_size=1 << 30, max_request_size=1 << 30
        )
        await producer.start()
        try:
            batch = producer.create_batch()
            for value in values:
                assert batch.append(key=None, value=value, timestamp=None) is not None
            sent = await producer.send_batch(batch, topic, partition=0)
            first: int = (await sent).offset
            return list(range(first, first + len(values)))
        finally:
            await producer.stop()

    async def send_unreadable(self, topic: str, value: bytes, *, partition: int = 0) -> int:
        """Sends a message with a header whose name is no UTF-8, and returns its offset. Clients of C can do that."""
        batch = self._producer.create_batch()
        batch.append(key=None, value=value, timestamp=None, headers=[("name", b"")])
        batch.close()
        raw = bytearray(batch._build())
        place = raw.rindex(b"name")
        raw[place : place + 4] = b"\xff\xff\xff\xff"
        raw[_CRC] = calc_crc32c(bytes(raw[_CRC.stop :])).to_bytes(4, "big")
        batch._buffer = raw
        return int((await (await self._producer.send_batch(batch, topic, partition=partition))).offset)

    async def send_aborted(self, topic: str, *values: bytes) -> None:
        """Sends messages in a transaction that is undone: no consumer that reads what is committed gets them."""
        producer = AIOKafkaProducer(bootstrap_servers=self.address, transactional_id=uuid4().hex)
        await producer.start()
        try:
            await producer.begin_transaction()
            for value in values:
                await (await producer.send(topic, value, partition=0))
            await producer.abort_transaction()
        finally:
            await producer.stop()

    async def read(self, topic: str, partition: int) -> list[Any]:
        """All messages of a partition."""
        place = TopicPartition(topic, partition)
        consumer = AIOKafkaConsumer(bootstrap_servers=self.address, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([place])
            end = (await consumer.end_offsets([place]))[place]
            found: list[Any] = []
            while await consumer.position(place) < end:
                for part in (await consumer.getmany(timeout_ms=1000)).values():
                    found += part
            return found
        finally:
            await consumer.stop()

    async def committed(self, group: str, topic: str, partition: int) -> int | None:
        """What the group says was taken."""
        offsets = await self._admin.list_consumer_group_offsets(group)
        found = offsets.get(TopicPartition(topic, partition))
        return None if found is None else int(found.offset)
