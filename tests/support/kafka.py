"""Topics and messages of a real broker, as a producer and an administrator have them; and reading them by ourselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self
from uuid import uuid4

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete  # type: ignore[import-untyped]


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
