"""The domain events of the platform: published, cut by ticks, read by the tail."""

from eventstore.domain_events.events import (
    EVENT_COLUMNS,
    SHARDS,
    NewEvent,
    StoredEvent,
    by_seq,
    find,
    find_at,
    first_by_seq,
    publish,
    publish_within,
    publishing,
    shard_of,
)

__all__ = [
    "EVENT_COLUMNS",
    "SHARDS",
    "NewEvent",
    "StoredEvent",
    "by_seq",
    "find",
    "find_at",
    "first_by_seq",
    "publish",
    "publish_within",
    "publishing",
    "shard_of",
]
