"""Messages of Kafka without a broker."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.core.messages.mapping import MessageMapping

# 2026-11-23T08:00:00.123Z
AT_MS = 1795420800123


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeMessage:
    """What aiokafka calls a ConsumerRecord."""

    value: bytes | None = b"{}"
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    topic: str = "orders"
    partition: int = 3
    offset: int = 42
    timestamp: int | None = AT_MS


def mapping_of(filter: str | None = None, **fields: str) -> MessageMapping:
    """Expressions with those that every mapping has."""
    return MessageMapping(
        fields={"tenant": "'acme'", "type": "'order.create'", "data": "value", **fields}, filter=filter
    )
