"""The composition root: opens the database, builds everything, runs it in one TaskGroup, stops it together.

Nothing else in the product constructs a stage or a server. The order is the promise of readiness: schema, secrets and
projection first, then the door, then the stages; and back in the opposite order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from aiohttp import web

from daemon import __version__
from daemon.commands import CommandError, Commands, Context
from daemon.config import Address, Config
from daemon.core.route import Route
from daemon.keys import Keychain
from daemon.metrics import Metrics
from daemon.pipeline.attempt import Settings
from daemon.pipeline.projection import Projection
from daemon.pipeline.sender import Sender
from daemon.pipeline.supervisor import Limits, Pipeline, incarnation
from daemon.store import open_store, vault_of
from daemon.web.app import build, build_ops
from daemon.web.services import Services
from eventstore import schema
from eventstore.connect import Database, check_durability
from eventstore.errors import StoreUnavailable

log = structlog.get_logger()

READY_SECONDS = 1.0


class ListenFailed(Exception):
    """An address cannot be bound; `str()` says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What a running daemon tells whoever started it."""

    url: str
    ops_url: str | None
    address: Address


async def run(config: Config, *, ready: Callable[[Running], None]) -> None:
    """Runs the daemon until SIGTERM or SIGINT; `ready` is called once it answers.

    A second signal ends it at once. Raises ListenFailed, StoreError and WrongMasterKey before it is ready.
    """
    async with open_store(config) as database:
        await schema.migrate(database)
        await schema.check(database)
        if not config.dev:
            await check_durability(database)
        await _run_on(database, config, ready)


async def _run_on(database: Database, config: Config, ready: Callable[[Running], None]) -> None:
    vault = await asyncio.to_thread(vault_of, config)
    await vault.check(database)
    metrics = Metrics()
    keychain = Keychain(database, vault)
    projection = Projection(database)
    await projection.catch_up()
    commands = Commands(
        database,
        keychain,
        config.egress_policy,
        signing_header=config.signing.header,
        now=_now,
        reached=projection.reach,
    )

    async def disable_gone(route: Route) -> None:
        context = Context(actor="system", origin="delivery", reason="the receiver answered 410 Gone")
        with contextlib.suppress(CommandError):  # deleted or disabled meanwhile: what was wanted is so
            await commands.disable(route.tenant, route.id, context)

    async with Sender(
        config.egress_policy,
        timeout_seconds=config.delivery.timeout_seconds,
        proxy=None if config.egress.proxy is None else config.egress.proxy.reveal(),
        extra_ca_file=config.egress.extra_ca_file,
        on_denied=lambda reason: metrics.egress_denied.labels(reason).inc(),
    ) as sender:
        pipeline = Pipeline(
            database,
            projection,
            keychain,
            sender,
            metrics,
            owner=incarnation(socket.gethostname(), os.getpid()),
            limits=Limits(concurrency=config.delivery.concurrency, route_concurrency=config.delivery.route_concurrency),
            settings=_settings(config),
            on_gone=disable_gone,
        )
        services = Services(
            config=config,
            database=database,
            commands=commands,
            keychain=keychain,
            index=projection.index,
            metrics=metrics,
            hurry=pipeline.hurry,
            readiness=lambda: _readiness(projection, pipeline),
            now=_now,
        )
        await _serve(config, services, pipeline, ready)


async def _serve(config: Config, services: Services, pipeline: Pipeline, ready: Callable[[Running], None]) -> None:
    async with contextlib.AsyncExitStack() as doors:
        address = await doors.enter_async_context(_listening(build(services), config.server.listen))
        ops_url = None
        if config.server.ops_listen is not None:
            ops = await doors.enter_async_context(_listening(build_ops(services), config.server.ops_listen))
            ops_url = f"http://{ops}"
        running = Running(url=config.server.url(address), ops_url=ops_url, address=address)
        with _signals(pipeline.stop):
            async with asyncio.TaskGroup() as group:
                group.create_task(pipeline.run())
                log.info("daemon.started", version=__version__, url=running.url)
                ready(running)
        log.info("daemon.stopped")


@asynccontextmanager
async def _listening(application: web.Application, address: Address) -> AsyncIterator[Address]:
    """Serves an application; yields the address with the port that was really bound. Raises ListenFailed."""
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=3.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address.host, address.port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            raise ListenFailed(f"cannot listen on {address}: {error.strerror or error}") from error
        yield Address(host=address.host, port=runner.addresses[0][1])
    finally:
        await runner.cleanup()


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """The first SIGTERM or SIGINT asks, the second one ends the process."""
    loop = asyncio.get_running_loop()
    asked = False

    def on_signal() -> None:
        nonlocal asked
        if asked:
            os._exit(1)
        asked = True
        log.info("daemon.stopping")
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _readiness(projection: Projection, pipeline: Pipeline) -> list[str]:
    """Why this process should get no traffic now; empty if it should."""
    reasons = []
    if pipeline.is_stopping:
        reasons.append("the daemon is stopping")
    try:
        async with asyncio.timeout(READY_SECONDS):
            if await projection.lag():
                reasons.append("the projection is not caught up")
    except (StoreUnavailable, TimeoutError):
        reasons.append("the database does not answer")
    return reasons


def _settings(config: Config) -> Settings:
    return Settings(
        signing_header=config.signing.header,
        standard_webhooks=config.signing.standard_webhooks,
        user_agent=f"Hookledger/{__version__}",
        max_body_bytes=config.events.max_bytes,
        timeout_seconds=config.delivery.timeout_seconds,
        retry=config.retry_policy,
    )


def _now() -> datetime:
    return datetime.now(UTC)
