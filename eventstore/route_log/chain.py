"""The hash chain over the route log. It reveals a lifecycle event that was changed, removed or reordered.

The database writes the chain (`hookledger.canonical` and `hookledger.append_route_event` in schema.sql). This module is
a second, pure implementation that verifies the chain without trusting the database. hash = sha256(previous hash ‖
canonical row). The canonical row is each field as `<length in bytes>:<text>`, null as `~`.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields
from datetime import datetime
from uuid import UUID

from eventstore.postgres.canonical import microseconds, netstring
from eventstore.postgres.errors import ChainBroken
from eventstore.route_log.log import NewRouteEvent, RouteEvent


def canonical(event: RouteEvent) -> bytes:
    """The bytes of an event that its hash covers, besides the previous hash."""
    fields = (
        str(event.pos),
        str(event.route_id),
        event.tenant,
        str(event.version),
        event.type,
        str(microseconds(event.effective_at)),
        event.actor,
        event.origin,
        event.reason,
        event.request_id,
        event.correlation_id,
        event.causation_id,
        event.body,
    )
    # Nearly always all of it is ASCII, where characters are bytes.
    text = "".join([f"{len(field)}:{field}" if field is not None else "~" for field in fields])
    return text.encode() if text.isascii() else b"".join(map(netstring, fields))


def digest(event: RouteEvent) -> bytes:
    """The hash that `event` must carry, given its `prev_hash`."""
    return hashlib.sha256(event.prev_hash + canonical(event)).digest()


_DRAFTED = tuple(field.name for field in fields(NewRouteEvent))


def require_appended(draft: NewRouteEvent, event: RouteEvent) -> None:
    """Raises ChainBroken unless the event is the one that was to be appended, under the hash of what it says. The
    function of the database may be another for a moment, and what it wrote in the place of ours would be signed.
    """
    for name in _DRAFTED:
        if getattr(event, name) != getattr(draft, name):
            raise ChainBroken(f"position {event.pos} was appended with another {name} than we asked for", pos=event.pos)
    if digest(event) != event.hash:
        raise ChainBroken(f"position {event.pos} was appended under another hash than its own", pos=event.pos)


class Chain:
    """A log that is read from its beginning: `check` takes each event after the one before it."""

    def __init__(self) -> None:
        self.pos = 0
        self.hash = b""
        self._at: datetime | None = None
        self._versions: dict[UUID, int] = {}

    def check(self, event: RouteEvent) -> None:
        """Raises ChainBroken if this is not the event that was written after the one before it."""
        pos = self.pos
        if event.pos != pos + 1:
            raise ChainBroken(f"position {pos + 1} of the route log is missing: {event.pos} follows {pos}", pos=pos + 1)
        if event.prev_hash != self.hash:
            raise ChainBroken(f"position {event.pos} does not continue the chain of position {pos}", pos=event.pos)
        if event.effective_at.tzinfo is None:  # infinity, as the driver reads it
            raise ChainBroken(f"position {event.pos} has no time that is ever written", pos=event.pos)
        if digest(event) != event.hash:
            raise ChainBroken(f"position {event.pos} is not what was written: its hash differs", pos=event.pos)
        if event.version != self._versions.get(event.route_id, 0) + 1:
            raise ChainBroken(f"position {event.pos} breaks the sequence of versions of its route", pos=event.pos)
        if self._at is not None and event.effective_at <= self._at:
            raise ChainBroken(f"position {event.pos} is not later than position {pos}", pos=event.pos)
        self.pos, self.hash, self._at = event.pos, event.hash, event.effective_at
        self._versions[event.route_id] = event.version
