"""POST /v1/events: one event as JSON, or many as NDJSON; or CloudEvents. 202 means durable.

A batch is read to its end within its limits, and stored in one transaction. Invalid lines are reported, and the valid
ones are stored. A batch with too many lines or bytes stores nothing: storing half of a file silently would be the worst
answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from aiohttp import web

from daemon.core.events import event, trace_context
from daemon.core.events.catalogue import KnownTypes
from daemon.core.events.event import IncomingEvent
from daemon.core.events.ndjson import Line
from daemon.core.events.raw_json import BYTE_ORDER_MARK
from daemon.core.events.trace_context import TraceContext
from daemon.core.webhook.request import HOPS_HEADER, MAX_HOPS
from daemon.telemetry.metrics import RESULTS
from daemon.web.access.auth import CALLER, IDENTIFYING_SECONDS
from daemon.web.access.command_context import request_key
from daemon.web.http import problems, shapes
from daemon.web.http.endpoints import Access, endpoint
from daemon.web.http.problems import Problem
from daemon.web.http.requests import bodies
from daemon.web.http.requests.turns import place, turn
from daemon.web.http.services import SERVICES
from daemon.web.ingest import cloud_events, ingest_spans, reading
from daemon.web.ingest.batch import Batch
from daemon.web.ingest.byte_budget import ByteBudget
from daemon.web.ingest.cloud_events import CloudEvents, Mode
from daemon.web.ingest.commits.group_commit import GroupCommit
from daemon.web.ingest.commits.tenant_queue import ANSWER_SECONDS
from daemon.web.ingest.event_shapes import CLOUD_EVENT, CLOUD_EVENTS, EVENT, EVENT_LINES, FateShape, PublishedShape
from daemon.web.ingest.ingest_spans import INGEST_SPAN
from daemon.web.ingest.reading import BATCH_MAX_EVENT_SIZES, Take
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.errors import StoreUnavailable

GROUP_COMMIT = web.AppKey("group_commit", GroupCommit)
BYTE_BUDGET = web.AppKey("byte_budget", ByteBudget)

# A batch has the time of a single event, and a second more for each so many events. A slow disk stores three times as
# many in a second.
BATCH_EVENTS_PER_SECOND = 2_000

# All bodies that are in memory at once, in events of the greatest length (`events.max_bytes`).
BUDGET_MAX_EVENT_SIZES = 2 * BATCH_MAX_EVENT_SIZES

_HOPS = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)


@endpoint(
    Access.PUBLISH,
    takes=(EVENT, EVENT_LINES, CLOUD_EVENT, CLOUD_EVENTS),
    answers={202: PublishedShape},
    refuses=(508,),
)
async def publish(request: web.Request) -> web.Response:
    """Stores one event or many.

    CloudEvents 1.0 are taken too: as `application/cloudevents+json`, many as `application/cloudevents-batch+json`, or
    with their attributes as `ce-` headers and their data as the body. The tenant is the extension attribute `tenant`,
    or else that of the token, or else the `subject`. Attributes that an event has no field for stand in `context`.

    A route may deliver to here, with a transform that makes an event. What was delivered so more than three times in a
    row is refused with 508: routes that deliver to each other would else do so for ever.

    An event without an `id` is another one each time, unless there is an `Idempotency-Key`: repeated with the same key
    and the same body, it is the same event. `Content-Encoding` may be gzip or deflate.
    """
    tracing = request.app[SERVICES].tracing
    if tracing is None:
        return await _publish(request)
    span = request[INGEST_SPAN] = ingest_spans.begin(tracing, request)
    status = 500
    try:
        response = await _publish(request)
        status = response.status
        return response
    except Exception as error:
        problem = problems.of(error)
        status = status if problem is None else problem.status
        raise
    finally:
        ingest_spans.end(tracing, span, status)


async def _publish(request: web.Request) -> web.Response:
    _hops(request)
    request_key(request)  # before the body is read
    with request.app[BYTE_BUDGET].share(request[CALLER].tenant) as take:
        cloud = cloud_events.of(request)
        if cloud is not None:
            return await (_publish_many if cloud.mode is Mode.BATCH else _publish_one)(request, take, cloud)
        if request.content_type == "application/x-ndjson":
            return await _publish_many(request, take)
        if request.content_type == "application/json":
            return await _publish_one(request, take)
    raise Problem(
        415, "send one event as application/json, or one per line as application/x-ndjson, or CloudEvents as JSON"
    )


async def _publish_one(request: web.Request, take: Take, cloud: CloudEvents | None = None) -> web.Response:
    services = request.app[SERVICES]
    raw = await bodies.read(request, max_bytes=services.config.events.max_bytes)
    take(len(raw))
    clock, seconds = asyncio.get_running_loop().time, _seconds_left(request)
    began_at = clock()
    known = await services.catalogue.known_types(seconds=seconds)
    await turn(request, len(raw))
    text = raw.removeprefix(BYTE_ORDER_MARK) if cloud is None else raw
    parsed = _parse(request, text, now=services.now(), known=known, cloud=cloud)
    if isinstance(parsed, tuple):
        raise _invalid(request, parsed)
    is_new = await request.app[GROUP_COMMIT].publish(parsed, seconds=seconds - (clock() - began_at))
    if cloud is not None and not is_new:
        problems = await cloud.of_other_sources(services.command_database, [0])
        if problems:
            raise _invalid(request, (problems[0],))
    return _answer(request, [{"id": parsed.id, "status": "accepted" if is_new else "duplicate"}])


async def _publish_many(request: web.Request, take: Take, cloud: CloudEvents | None = None) -> web.Response:
    if cloud is None:
        lines = await reading.lines(request, take)
        async with place(request, lines.size_bytes):
            return await _publish_batch(request, lines)
    raw = await reading.array(request, take)
    async with place(request, len(raw)):
        return await _publish_batch(request, await reading.elements(request, raw), cloud)


async def _publish_batch(request: web.Request, batch: Batch, cloud: CloudEvents | None = None) -> web.Response:
    services = request.app[SERVICES]
    seconds = _seconds_left(request) + len(batch.lines) / BATCH_EVENTS_PER_SECOND
    async with _answering_within(seconds):
        now, known = services.now(), await services.catalogue.known_types()

        def parse(line: Line) -> NewEvent | tuple[event.FieldProblem, ...]:
            if line.text is None:
                return _too_long(request, line, cloud)
            return _parse(request, line.text, now=now, known=known, cloud=cloud, number=line.number)

        results = await request.app[GROUP_COMMIT].publish_batch(
            batch.parts(parse), is_one_part=batch.is_one_part, seconds=seconds
        )
        batch.settle(results)
        if cloud is not None:
            repeated = [n for n, answer in enumerate(batch.answers) if answer["status"] == "duplicate"]
            for position, problem in (await cloud.of_other_sources(services.command_database, repeated)).items():
                batch.refuse(position, problem)
    return _answer(request, batch.answers)


def _seconds_left(request: web.Request) -> float:
    """What is left of ANSWER_SECONDS. The time that the sender needed for the body is not counted."""
    return ANSWER_SECONDS - request[IDENTIFYING_SECONDS]


@asynccontextmanager
async def _answering_within(seconds: float) -> AsyncIterator[None]:
    """Raises StoreUnavailable if the block takes longer. Each step has a timeout, but their sum may be too long."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise StoreUnavailable("the events could not be stored in time") from error


def _parse(
    request: web.Request,
    raw: bytes,
    *,
    now: datetime,
    known: KnownTypes | None,
    cloud: CloudEvents | None,
    number: int = 0,
) -> NewEvent | tuple[event.FieldProblem, ...]:
    """The event to store, or everything that is wrong with it. `number` is that of its line, if it is one of many."""
    limit = request.app[SERVICES].config.events.max_bytes
    type_test = None if known is None else known.problem
    tenant = request[CALLER].tenant
    if cloud is None:
        parsed = event.parse(raw, now=now, max_bytes=limit, tenant=tenant, type_test=type_test)
    else:
        parsed = cloud.parse(raw, now=now, max_bytes=limit, tenant=tenant, type_test=type_test)
    if not isinstance(parsed, IncomingEvent):
        return parsed
    span = request.get(INGEST_SPAN)
    if parsed.id is None:
        key = request_key(request)
        parsed.id = _new_id(now) if key is None else _id_of_key(key, number, raw)
    return _new_event(parsed, parsed.id, hops=_hops(request) or None, trace=None if span is None else span.kept)


def _too_long(request: web.Request, line: Line, cloud: CloudEvents | None) -> tuple[event.FieldProblem, ...]:
    limit = request.app[SERVICES].config.events.max_bytes
    problem = event.FieldProblem(field="", message=f"the event has {line.size_bytes} bytes, {limit} are allowed")
    return (problem,) if cloud is None else cloud.noted((problem,))


def _invalid(request: web.Request, problems: tuple[event.FieldProblem, ...]) -> Problem:
    request.app[SERVICES].metrics.published("rejected")
    return Problem(422, "the event is not valid; nothing was stored", errors=problems)


def _hops(request: web.Request) -> int:
    """How many deliveries of ours in a row led to this request. Raises Problem if they are too many."""
    given = request.headers.get(HOPS_HEADER)
    if given is None:
        return 0
    if not _HOPS.fullmatch(given):
        raise Problem(400, f"{HOPS_HEADER} is set by Hookledger alone, to a number: leave it out")
    if int(given) > MAX_HOPS:
        detail = (
            f"this event was delivered {given} times in a row by routes whose target is this installation, {MAX_HOPS} "
            "are allowed; nothing was stored. Change the target, the event types or the filter of one of these routes"
        )
        raise Problem(508, detail)
    return int(given)


def _new_event(parsed: IncomingEvent, id: str, *, hops: int | None, trace: TraceContext | None) -> NewEvent:
    return NewEvent(
        tenant=parsed.tenant,
        id=id,
        type=parsed.type,
        data=parsed.data,
        occurred_at=parsed.occurred_at,
        context=parsed.context if trace is None else trace_context.keep(parsed.context, trace),
        snapshot=parsed.snapshot,
        backfill=parsed.backfill,
        hops=hops,
    )


def _new_id(now: datetime) -> str:
    """An id for an event without one. It begins with the time, so that new ids are neighbours in the index."""
    return f"evt_{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}"


def _id_of_key(key: str, number: int, raw: bytes) -> str:
    """An id for an event without one in a request that has an Idempotency-Key: the same when it is repeated. Another
    text is another event, so that a key that was used again by mistake loses none.
    """
    return "evt_" + hashlib.sha256(b"%b\n%d\n%b" % (key.encode(), number, raw)).hexdigest()[:32]


def _answer(request: web.Request, answers: list[FateShape]) -> web.Response:
    """202 with the result of every event. Counts the results, for the body and in the metrics."""
    counts = dict.fromkeys(RESULTS, 0)
    for each in answers:
        counts[each["status"]] += 1
    metrics = request.app[SERVICES].metrics
    for status, count in counts.items():
        if count:
            metrics.published(status, count)
    body: PublishedShape = {
        "accepted": counts["accepted"],
        "duplicates": counts["duplicate"],
        "rejected": counts["rejected"],
        "events": answers,
    }
    return shapes.answer(body, status=202)
