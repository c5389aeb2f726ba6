"""POST /v1/events: one event as JSON, or many as NDJSON. 202 means durable.

A batch is read line by line within its limits, and stored in one transaction; a bad line is named and the good ones are
kept. More lines or bytes than allowed and nothing is stored: half a file, taken silently, would be the worst answer.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from aiohttp import web

from daemon.core import event
from daemon.core.event import Incoming
from daemon.core.ndjson import Line, LineSplitter
from daemon.web import bodies, ingest, shapes
from daemon.web.auth import CALLER
from daemon.web.endpoints import Access, endpoint
from daemon.web.ingest import ANSWER_SECONDS, Ingest
from daemon.web.problems import REFUSED_VALUE, Problem, listed
from daemon.web.services import SERVICES
from eventstore.errors import ValueRefused
from eventstore.stream import NewEvent

INGEST = web.AppKey("ingest", Ingest)

# A batch gets the time of a single event, and a second for each so many events; a slow disk stores three times as many.
BATCH_EVENTS_PER_SECOND = 2_000

# All lines of a batch together may have as many bytes as this many of the longest.
BATCH_OF_LONGEST = 256

_BOM = b"\xef\xbb\xbf"


@endpoint(Access.PUBLISH, answers={202: None})
async def publish(request: web.Request) -> web.Response:
    """Stores one event or many."""
    if request.content_type == "application/x-ndjson":
        return await _publish_many(request)
    if request.content_type == "application/json":
        return await _publish_one(request)
    raise Problem(415, "send one event as application/json, or one per line as application/x-ndjson")


async def _publish_one(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    raw = await bodies.read(request, most_bytes=services.config.events.max_bytes)
    parsed = _parse(request, raw.removeprefix(_BOM))
    if isinstance(parsed, tuple):
        services.metrics.events_published.labels("rejected").inc()
        raise Problem(422, "the event is not valid; nothing was stored", errors=parsed)
    stored = _new_event(parsed)
    is_fresh = await request.app[INGEST].publish(stored)
    return _answer(request, [{"id": stored.id, "status": _status(is_fresh)}])


@dataclass(slots=True, kw_only=True)
class _Batch:
    """`answers` has a place for each line; `places` says which one belongs to which event."""

    answers: list[dict[str, object]] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def add(self, stored: NewEvent) -> None:
        self.places.append(len(self.answers))
        self.events.append(stored)
        self.answers.append({"id": stored.id})

    def reject(self, line: Line, problems: Sequence[event.Problem]) -> None:
        self.answers.append({"id": None, "line": line.number, **_rejection(problems)})

    def settle(self, outcomes: Sequence[ingest.Outcome]) -> None:
        for place, outcome in zip(self.places, outcomes, strict=True):
            if isinstance(outcome, ValueRefused):
                self.answers[place] |= _rejection((event.Problem(field="", message=f"{REFUSED_VALUE} event"),))
            else:
                self.answers[place]["status"] = _status(outcome)


async def _publish_many(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    batch = _Batch()
    async for line in _lines(request):
        parsed = _parse(request, line.text) if line.text is not None else (_too_long(request, line),)
        if isinstance(parsed, tuple):
            batch.reject(line, parsed)
        else:
            batch.add(_new_event(parsed))
    if batch.events:
        seconds = ANSWER_SECONDS + len(batch.events) / BATCH_EVENTS_PER_SECOND
        batch.settle(await ingest.store(services.database, batch.events, seconds=seconds))
        services.hurry()
    return _answer(request, batch.answers)


async def _lines(request: web.Request) -> AsyncIterator[Line]:
    """The lines of a batch. Raises Problem for too many lines or bytes."""
    limits = request.app[SERVICES].config.events
    splitter = LineSplitter(max_bytes=limits.max_bytes)
    count = 0
    async for chunk in bodies.chunks(request, most_bytes=limits.max_bytes * BATCH_OF_LONGEST):
        for line in splitter.feed(chunk):
            count += 1
            _check_count(count, limits.batch_max)
            yield line
        await asyncio.sleep(0)  # a body that is there already would hold up everything else
    for line in splitter.end():
        _check_count(count + 1, limits.batch_max)
        yield line


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise Problem(413, f"a batch may have {most} events; nothing was stored, send it in parts")


def _parse(request: web.Request, raw: bytes) -> Incoming | tuple[event.Problem, ...]:
    services = request.app[SERVICES]
    limit = services.config.events.max_bytes
    return event.parse(raw, now=services.now(), max_bytes=limit, tenant=request[CALLER].tenant)


def _too_long(request: web.Request, line: Line) -> event.Problem:
    limit = request.app[SERVICES].config.events.max_bytes
    return event.Problem(field="", message=f"the event has {line.size_bytes} bytes, {limit} are allowed")


def _new_event(parsed: Incoming) -> NewEvent:
    return NewEvent(
        tenant=parsed.tenant,
        id=parsed.id if parsed.id is not None else f"evt_{secrets.token_hex(16)}",
        type=parsed.type,
        data=parsed.data,
        occurred_at=parsed.occurred_at,
        context=parsed.context,
        snapshot=parsed.snapshot,
        backfill=parsed.backfill,
    )


def _rejection(problems: Sequence[event.Problem]) -> dict[str, object]:
    return {"status": "rejected", "errors": listed(problems)}


def _status(is_fresh: bool) -> str:  # noqa: FBT001 - the outcome of a publish, and nothing else
    return "accepted" if is_fresh else "duplicate"


def _answer(request: web.Request, answers: list[dict[str, object]]) -> web.Response:
    """202 with every line's fate, counted here and in the metrics."""
    counts = Counter(str(each["status"]) for each in answers)
    published = request.app[SERVICES].metrics.events_published
    for status, count in counts.items():
        published.labels(status).inc(count)
    body = {
        "accepted": counts["accepted"],
        "duplicates": counts["duplicate"],
        "rejected": counts["rejected"],
        "events": answers,
    }
    return shapes.answer(body, status=202)
