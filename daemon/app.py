"""The composition root: opens the database, builds all components, runs them in one TaskGroup and stops them together.

The pipeline builds its own stages (`daemon.pipeline.supervisor`). The pipeline, commands and queries have a pool of
connections each, so that none of them can take another's. The order defines readiness: schema, secrets and projection
come first, then the listeners, then the stages of the pipeline. They stop in the reverse order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from daemon import __version__
from daemon.catalogue import Catalogue, add_operational
from daemon.commands import CommandLimits, Commands
from daemon.config import Config, ListenAddress
from daemon.credentials.keys import Keychain
from daemon.credentials.tokens import Tokens
from daemon.operations import audience_of
from daemon.pipeline.http_client.sender import Sender
from daemon.pipeline.intake.event_feed import EventFeed
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.scheduling.pools import SendingLimits
from daemon.pipeline.sending.attempt import AttemptSettings
from daemon.pipeline.supervisor import Pipeline, incarnation
from daemon.pipeline.upkeep.sealing import SealSettings
from daemon.pipeline.wakeup import Wakeup
from daemon.runtime import open_files
from daemon.runtime.signals import Ending
from daemon.runtime.tasks import TaskGroup
from daemon.sources.kafka.client import require
from daemon.sources.sources import CONNECTIONS, Sources
from daemon.store import (
    keep_of,
    migrate,
    open_store,
    open_vault,
    opened,
    pool_of_commands,
    pool_of_queries,
    pool_of_sources,
    query_pool,
)
from daemon.telemetry.metrics import CLIENTS, RECEIVERS, Metrics
from daemon.telemetry.spans import Tracing
from daemon.web.app import build, build_ops
from daemon.web.http.connections import ConnectionLimits
from daemon.web.http.listeners import Listeners, serving
from daemon.web.http.outages import OutageLog
from daemon.web.http.services import Services
from eventstore.postgres import schema, schema_lines
from eventstore.postgres.connect import Database, check_durability
from eventstore.postgres.errors import StoreError, StoreUnavailable

log = structlog.get_logger()

READY_SECONDS = 1.0
# For clients of the ops listener, beside those of the main one: monitoring must get in when all others do not.
OPS_CONNECTIONS = 32
# Beside the connections of a source to its brokers: to the coordinator of its group, and while one is made anew.
FILES_OF_SOURCE = 2
# Ticks are made several times a second, and what holds one up is ended within 5 s.
TICK_SECONDS = 10.0


class LoopFailed(ExceptionGroup[Exception]):
    """A loop of a running daemon raised an error that ends the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The addresses of a running daemon, for the process that started it."""

    url: str
    ops_url: str | None
    address: ListenAddress


async def run(
    config: Config,
    *,
    ready: Callable[[Running], None],
    ending: Ending,
    metrics: Metrics,
    listeners: Listeners,
) -> None:
    """Runs the daemon until `ending` ends it. `ready` is called once it answers requests, on `listeners`.

    Another one may run in this process meanwhile, so nothing that is built here is the process's. Raises StoreError or
    WrongMasterKey before it is ready, LoopFailed afterwards.
    """
    async with prepared(config) as database:
        await _run_on(database, config, ready, ending, metrics, listeners)


@asynccontextmanager
async def prepared(config: Config) -> AsyncIterator[Database]:
    """An open database of our own, migrated to the schema of this version, on a server that loses no acknowledged
    commit.
    """
    async with open_store(config) as database:
        await migrate(config, database)
        await schema.check(database)
        await schema.require_owner(database)
        await schema_lines.require_whole(database)
        if not config.dev:
            await check_durability(database)
        yield database


async def _run_on(
    database: Database,
    config: Config,
    ready: Callable[[Running], None],
    ending: Ending,
    metrics: Metrics,
    listeners: Listeners,
) -> None:
    if config.sources:
        require()
    owner = incarnation(socket.gethostname(), os.getpid())
    vault = await open_vault(config, database)
    await vault.check(database)
    projection = Projection(database)
    await projection.catch_up()
    limits = SendingLimits(
        concurrency=config.delivery.concurrency,
        route_concurrency=config.delivery.route_concurrency,
        breaker_failures=config.delivery.breaker_failures,
    )
    async with (
        opened(pool_of_commands(database.url, config.database)) as command_database,
        opened(pool_of_queries(database.url, config.database)) as queried,
        Sender(
            config.egress_policy,
            timeout_seconds=config.delivery.timeout_seconds,
            proxy=None if config.egress.proxy is None else config.egress.proxy.reveal(),
            extra_ca_file=config.egress.extra_ca_file,
            concurrency=config.delivery.concurrency,
            on_denied=lambda reason: metrics.egress_denied.labels(reason).inc(),
            on_connections=metrics.counted(RECEIVERS),
        ) as sender,
        _traced(config, metrics) as tracing,
    ):
        keychain = Keychain(command_database, vault)
        audience = audience_of(config.operations)
        if audience.types:
            await add_operational(command_database, audience.types)
        catalogue = Catalogue(command_database, is_strict=config.events.strict_types)
        commands = Commands(
            command_database,
            keychain,
            config.egress_policy,
            signing_header=config.signing.header,
            now=_now,
            on_appended=projection.reach,
            index=projection.index,
            catalogue=catalogue,
            limits=CommandLimits(
                routes_per_tenant=config.limits.routes_per_tenant,
                commands_per_minute=config.limits.commands_per_minute,
            ),
            audience=audience,
        )
        queries = query_pool(queried, config.database, on_refused=metrics.query_refused)
        feed = EventFeed(queries.of("event feed"))
        pipeline = Pipeline(
            database,
            projection,
            Keychain(database, vault),
            sender,
            metrics,
            owner=owner,
            limits=limits,
            settings=_settings(config),
            commands=commands,
            auto_disable_after=config.delivery.auto_disable_after,
            audience=audience,
            seals=SealSettings(
                every=timedelta(seconds=config.seal.every_seconds),
                anchor_file=config.seal.anchor_file,
                former_keys=config.seal.former_public_keys,
            ),
            keep=keep_of(config),
            needs_durability=not config.dev,
            feed=feed,
            tracing=tracing,
            success_lines_per_second=config.log.successes_per_second,
        )
        services = Services(
            config=_with_bound_address(config, listeners),
            command_database=command_database,
            query_pool=queries,
            commands=commands,
            keychain=keychain,
            tokens=Tokens(command_database, macs=vault.macs),
            catalogue=catalogue,
            index=projection.index,
            reach=projection.reach,
            reach_end=projection.reach_end,
            metrics=metrics,
            outages=OutageLog(metrics),
            request_tick=pipeline.hurry,
            publish=pipeline.publish,
            event_feed=feed,
            filter_places=pipeline.filter_places,
            tracing=tracing,
            tick_age_seconds=lambda: pipeline.tick_age_seconds,
            clock_skew_seconds=lambda: pipeline.clock_skew_seconds,
            clock_step_seconds=lambda: pipeline.clock_step_seconds,
            sealing_fault=lambda: pipeline.sealing_fault,
            stage_faults=lambda: pipeline.stage_faults + pipeline.standing_faults,
            readiness=lambda: _readiness(projection, pipeline),
            now=_now,
        )
        connections = _connection_limits(config, limits)
        async with _sources(config, database, metrics, pipeline, owner=owner) as sources:
            await _serve(services, pipeline, sources, listeners, connections, ready, ending)


@asynccontextmanager
async def _sources(
    config: Config, database: Database, metrics: Metrics, pipeline: Pipeline, *, owner: str
) -> AsyncIterator[Sources | None]:
    """The sources of events, with their connections; None without any."""
    if not config.sources:
        yield None
        return
    async with opened(pool_of_sources(database.url, CONNECTIONS)) as own:
        yield Sources(config, own, metrics, owner=owner, now=_now, on_events=pipeline.hurry, tell=pipeline.tell)


def _with_bound_address(config: Config, listeners: Listeners) -> Config:
    """The config with the address that is really bound: links into the dashboard need its port."""
    return config.model_copy(update={"server": config.server.model_copy(update={"listen": listeners.main.address})})


def _connection_limits(config: Config, sending: SendingLimits) -> ConnectionLimits:
    """How many connections clients of the main listener may have in this process."""
    limit, wanted = open_files.raise_limit(), config.server.max_connections
    database = config.database
    others = database.pool_size + database.command_connections + database.query_connections
    if config.sources:
        others += CONNECTIONS + sum(FILES_OF_SOURCE + len(source.brokers) for source in config.sources.values())
    others += 0 if config.server.ops_listen is None else OPS_CONNECTIONS
    most = open_files.for_clients(limit, sending=sending.workers, others=others, wanted=wanted)
    if most < wanted:
        log.warning("connections.limited", most=most, max_connections=wanted, open_files=limit)
    return ConnectionLimits(most=most)


async def _serve(
    services: Services,
    pipeline: Pipeline,
    sources: Sources | None,
    listeners: Listeners,
    connections: ConnectionLimits,
    ready: Callable[[Running], None],
    ending: Ending,
) -> None:
    counted, retiring = services.metrics.counted(CLIENTS), Wakeup()
    async with contextlib.AsyncExitStack() as stack:
        main = serving(build(services), listeners.main, connections, on_connections=counted)
        await stack.enter_async_context(main)
        if listeners.ops is not None:
            own = ConnectionLimits(most=OPS_CONNECTIONS)
            ops = serving(build_ops(services), listeners.ops, own, on_connections=counted)
            await stack.enter_async_context(ops)
        try:
            with ending.serving(stop=partial(_stop, pipeline, sources), retire=retiring.set):
                async with TaskGroup() as group:
                    leaving = _retire(retiring, services.event_feed, sources, stack, pipeline)
                    retirement = group.create_task(leaving)
                    running = group.create_task(pipeline.run())
                    if sources is not None:
                        group.create_task(sources.run())
                    ready(running_at(services.config, listeners))
                    await asyncio.wait({running})
                    if not retiring.is_set:
                        retirement.cancel()
        except ExceptionGroup as failed:
            raise LoopFailed("a loop of the daemon failed", failed.exceptions) from None


async def _retire(
    retiring: Wakeup,
    feed: EventFeed,
    sources: Sources | None,
    served: contextlib.AsyncExitStack,
    pipeline: Pipeline,
) -> None:
    """Leaves clients and sources to the successor before the pipeline ends, so that none is answered by one that is
    ending.
    """
    await retiring.wait_set()
    feed.close()
    if sources is not None:
        sources.stop()
    await served.aclose()
    pipeline.stop()


def _stop(pipeline: Pipeline, sources: Sources | None) -> None:
    pipeline.stop()
    if sources is not None:
        sources.stop()


@asynccontextmanager
async def _traced(config: Config, metrics: Metrics) -> AsyncIterator[Tracing | None]:
    """What takes spans, None if nobody traces."""
    if config.tracing.endpoint is None:
        yield None
        return
    tracing = Tracing(config.tracing, metrics)
    tracing.start()
    try:
        yield tracing
    finally:
        await asyncio.to_thread(tracing.close)


def running_at(config: Config, listeners: Listeners) -> Running:
    """The addresses of a daemon behind these listeners."""
    return Running(
        url=config.server.url(listeners.main.address),
        ops_url=None if listeners.ops is None else f"http://{listeners.ops.address}",
        address=listeners.main.address,
    )


async def _readiness(projection: Projection, pipeline: Pipeline) -> list[str]:
    """The reasons why this process should get no traffic now; empty if it is ready."""
    reasons = []
    if pipeline.is_stopping:
        reasons.append("the daemon is stopping")
    if pipeline.log_fault is not None:
        reasons.append(pipeline.log_fault)
    if pipeline.tick_age_seconds > TICK_SECONDS:
        reasons.append(f"no tick was made for {pipeline.tick_age_seconds:.0f} s although events were published")
    try:
        async with asyncio.timeout(READY_SECONDS):
            if await projection.lag():
                reasons.append("the projection is not caught up")
        reasons.extend(pipeline.stage_faults)
    except (StoreUnavailable, TimeoutError):
        reasons.append("the database does not answer")
    except StoreError:  # it is being restored, or changed by hand; who asks is told nothing of its tables
        reasons.append("the database does not have the schema of this version")
    return reasons


def _settings(config: Config) -> AttemptSettings:
    return AttemptSettings(
        signing_header=config.signing.header,
        standard_webhooks=config.signing.standard_webhooks,
        user_agent=f"Hookledger/{__version__}",
        max_body_bytes=config.events.max_bytes,
        trace_ratio=config.tracing.propagated_ratio,
        timeout_seconds=config.delivery.timeout_seconds,
        retry=config.retry_policy,
    )


def _now() -> datetime:
    return datetime.now(UTC)
