"""CloudEvents at POST /v1/events: one as JSON, many as a JSON array, or one whose attributes are headers.

Their `id` is unique for their `source`, while ours is unique for the tenant. So an event that the log has already
counts as a duplicate only if its source is the same. From another source it is another event, and its producer is told
that it was not stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum

from aiohttp import web

from daemon.core.events import cloud_event, event, raw_json
from daemon.core.events.cloud_event import NotACloudEvent
from daemon.core.events.event import FieldProblem, IncomingEvent, TypeTest
from daemon.web.http.problems import Problem
from daemon.web.ingest.event_shapes import CLOUD_EVENT, CLOUD_EVENTS
from eventstore.domain_events import same_ids
from eventstore.postgres.connect import Database

# Any of these says that the attributes are headers: each CloudEvent has both.
_TELLING_HEADERS = ("ce-specversion", "ce-id")


class Mode(Enum):
    """How CloudEvents come."""

    STRUCTURED = "structured"
    BATCH = "batch"
    BINARY = "binary"


class CloudEvents:
    """The CloudEvents of one request. `parse` or `noted` is called for each, in the order of the answers."""

    def __init__(self, request: web.Request, mode: Mode) -> None:
        self.mode = mode
        self._headers = _attributes(request) if mode is Mode.BINARY else {}
        self._content_type = request.headers.get("Content-Type", "")
        self._keys: list[tuple[str, str, str] | None] = []

    def parse(
        self, raw: bytes, *, now: datetime, max_bytes: int, tenant: str | None, type_test: TypeTest | None
    ) -> IncomingEvent | tuple[FieldProblem, ...]:
        """The event that a CloudEvent is, or everything that is wrong with it, by the names of its attributes."""
        try:
            if self.mode is Mode.BINARY:
                made = cloud_event.binary(self._headers, raw, content_type=self._content_type, tenant=tenant)
            else:
                made = cloud_event.structured(raw.removeprefix(raw_json.BYTE_ORDER_MARK), tenant=tenant)
        except NotACloudEvent as error:
            return self.noted(error.problems)
        parsed = event.parse(made.text, now=now, max_bytes=max_bytes, tenant=tenant, type_test=type_test)
        if isinstance(parsed, IncomingEvent):
            self._keys.append((parsed.tenant, made.id, made.source))
            return parsed
        return self.noted(tuple(cloud_event.attribute_problem(problem) for problem in parsed))

    def noted(self, problems: tuple[FieldProblem, ...]) -> tuple[FieldProblem, ...]:
        """The problems of a CloudEvent that is not stored."""
        self._keys.append(None)
        return problems

    async def of_other_sources(self, database: Database, positions: Sequence[int]) -> dict[int, FieldProblem]:
        """What is wrong with those of some repeated events that are events of other sources than the stored ones. All
        are given by their place in the request. Raises StoreUnavailable.
        """
        repeated = {position: key for position in positions if (key := self._keys[position]) is not None}
        if not repeated:
            return {}
        stored = await same_ids.contexts(database, {(tenant, name) for tenant, name, _ in repeated.values()})
        problems: dict[int, FieldProblem] = {}
        for position, (tenant, name, source) in repeated.items():
            problem = cloud_event.of_another_source(stored.get((tenant, name)), source)
            if problem is not None:
                problems[position] = problem
        return problems


def of(request: web.Request) -> CloudEvents | None:
    """The CloudEvents of a request, None if it has none. Raises Problem 415 for a format that is not taken."""
    content_type = request.content_type
    if content_type.startswith("application/cloudevents"):
        modes = {CLOUD_EVENT.content_type: Mode.STRUCTURED, CLOUD_EVENTS.content_type: Mode.BATCH}
        if content_type not in modes:
            raise Problem(415, f"send CloudEvents as {' or '.join(modes)}, or with their attributes as ce- headers")
        return CloudEvents(request, modes[content_type])
    if any(name in request.headers for name in _TELLING_HEADERS):
        return CloudEvents(request, Mode.BINARY)
    return None


def _attributes(request: web.Request) -> Mapping[str, str]:
    """The attributes that are headers. Raises Problem for one that is given twice."""
    found: dict[str, str] = {}
    for header, text in request.headers.items():
        name = header.lower()
        if name.startswith(cloud_event.HEADER_PREFIX):
            name = name.removeprefix(cloud_event.HEADER_PREFIX)
            if name in found:
                raise Problem(400, f"the header {header} is given more than once; nothing was stored")
            found[name] = cloud_event.header_value(text)
    return found
