"""What handlers need, in one frozen object under one application key, and the request options of the installation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from daemon import __version__
from daemon.catalogue import Catalogue
from daemon.commands import Commands
from daemon.config import Config
from daemon.core.routing.index import RouteIndex
from daemon.core.webhook.request import RequestOptions
from daemon.credentials.keys import Keychain
from daemon.credentials.tokens import Tokens
from daemon.expressions.judging import FilterPlaces
from daemon.pipeline.intake.event_feed import EventFeed
from daemon.telemetry.metrics import Metrics
from daemon.telemetry.spans import Tracing
from daemon.web.http.outages import OutageLog
from eventstore.domain_events.events import Publish
from eventstore.postgres.connect import Database
from eventstore.postgres.query_pool import QueryPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """`command_database` serves publishing, commands and the identification of callers. Everything that only reads, or
    that may take long, uses a database of `query_pool` (access/queries.py), so that it holds up none of these.

    `index` is the index of the live projection; `reach` returns once that has applied the route log up to a position,
    `reach_end` once it has applied what stood there when it was called. Both raise StoreUnavailable. `request_tick`
    asks for a tick at once, so that new events are delivered without delay; `publish` does that itself. `event_feed`
    has what was published of late. Filters of events are evaluated at `filter_places`. `outages` is told of requests
    that PostgreSQL keeps from an answer. `tracing` takes spans, None if nobody traces. `tick_age_seconds` returns how
    long events have been waiting for a tick, `clock_skew_seconds` how far this machine's clock is ahead of the
    database's, `clock_step_seconds` how far that stepped lately, `sealing_fault` what keeps this process from sealing,
    `stage_faults` which of its stages the database keeps from their work, and what is wrong with the server.
    `readiness` returns the reasons why this process is not ready, none if it is. `now` is an aware datetime in UTC.
    """

    config: Config
    command_database: Database
    query_pool: QueryPool
    commands: Commands
    keychain: Keychain
    tokens: Tokens
    catalogue: Catalogue
    index: RouteIndex
    reach: Callable[[int], Awaitable[None]]
    reach_end: Callable[[], Awaitable[None]]
    metrics: Metrics
    outages: OutageLog
    request_tick: Callable[[], None]
    publish: Publish
    event_feed: EventFeed
    filter_places: FilterPlaces
    tracing: Tracing | None
    tick_age_seconds: Callable[[], float]
    clock_skew_seconds: Callable[[], float]
    clock_step_seconds: Callable[[], float]
    sealing_fault: Callable[[], str | None]
    stage_faults: Callable[[], list[str]]
    readiness: Callable[[], Awaitable[list[str]]]
    now: Callable[[], datetime]


SERVICES = web.AppKey("services", Services)


def request_options(config: Config) -> RequestOptions:
    """What the configuration says about every webhook request of this installation."""
    return RequestOptions(
        signing_header=config.signing.header,
        standard_webhooks=config.signing.standard_webhooks,
        user_agent=f"Hookledger/{__version__}",
        max_body_bytes=config.events.max_bytes,
        trace_ratio=config.tracing.propagated_ratio,
    )
