"""The pipeline of one process on a real database, without its listeners: what tests/pipeline runs."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from daemon.commands import Commands, Context
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.drafts.route_draft import RouteDraft
from daemon.core.routing.route import Route
from daemon.core.webhook.egress import EgressPolicy
from daemon.credentials.keys import Keychain
from daemon.operations import NOBODY, Audience
from daemon.pipeline.http_client.sender import Sender
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.scheduling.pools import SendingLimits
from daemon.pipeline.sending.attempt import AttemptSettings
from daemon.pipeline.supervisor import Pipeline, incarnation
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.upkeep.sealing import SealSettings
from daemon.telemetry.metrics import Metrics
from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.connect import Database
from eventstore.retention.retention import Keep
from tests.support.rows.credentials import let_vault_in

CONTEXT = Context(actor="test", origin="test")
SIGNING_HEADER = "OrderGroove-Signature"
_incarnations = itertools.count()
_event_numbers = itertools.count(1)  # shared by all processes: an id published again is a duplicate


@dataclass(kw_only=True)
class PipelineProcess:
    """The pipeline with its parts, and short ways to make routes, publish events and query the database."""

    database: Database
    projection: Projection
    commands: Commands
    keychain: Keychain
    pipeline: Pipeline
    metrics: Metrics

    async def route(self, target_url: str, *event_types: str, tenant: str = "acme", **more: Any) -> Route:
        draft = RouteDraft(name="a route", target_url=target_url, event_types=event_types or ("*",), **more)
        return (await self.commands.create(tenant, draft, CONTEXT)).route

    async def edit(self, route: Route, **changes: Any) -> None:
        await self.commands.edit(route.tenant, route.id, changes, CONTEXT)

    async def disable(self, route: Route) -> None:
        await self.commands.disable(route.tenant, route.id, CONTEXT)

    async def enable(self, route: Route) -> None:
        await self.commands.enable(route.tenant, route.id, CONTEXT)

    async def publish(
        self, *types: str, tenant: str = "acme", count: int = 1, occurred_at: datetime | None = None, **more: Any
    ) -> list[str]:
        """Publishes `count` events of each type. Returns their ids, in order."""
        events = [
            NewEvent(
                tenant=tenant,
                id=f"evt_{next(_event_numbers)}",
                type=kind,
                data=json.dumps({"n": n}).encode(),
                occurred_at=occurred_at,
                **more,
            )
            for n in range(count)
            for kind in types or ("order.create",)
        ]
        await domain_events.publish(self.database, events)
        self.pipeline.hurry()
        return [event.id for event in events]

    async def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        async with self.database.connection() as connection:
            return [dict(row) for row in await connection.fetch(query, *arguments)]

    async def outcomes(self, route_id: UUID | None = None) -> dict[str, list[str]]:
        """Event id → its outcomes in order."""
        rows = await self.rows(
            "SELECT event_id, outcome FROM hookledger.attempt WHERE $1::uuid IS NULL OR route_id = $1 ORDER BY at, number",
            route_id,
        )
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row["event_id"], []).append(row["outcome"])
        return found

    async def until_row(self, query: str, *arguments: object, seconds: float = 60.0) -> None:
        """Waits until the query's first value is true."""
        async with asyncio.timeout(seconds):
            while not (await self.rows(query, *arguments))[0].popitem()[1]:
                await asyncio.sleep(0.02)

    async def until_accounted(self, *, seconds: float = 60.0) -> None:
        """Waits until every checkpoint is at the newest tick and no event is unread."""
        await self.until_row(
            "SELECT (SELECT min(tick) FROM hookledger.checkpoint) = (SELECT coalesce(max(tick), 0) FROM hookledger.tick)"
            " AND NOT hookledger.has_news(coalesce((SELECT snap FROM hookledger.tick ORDER BY tick DESC LIMIT 1), '1:1:'))",
            seconds=seconds,
        )


@asynccontextmanager
async def pipeline_process(
    database_url: str,
    *,
    run: bool = True,
    timeout_seconds: float = 5.0,
    concurrency: int = 64,
    route_concurrency: int = 16,
    breaker_failures: int = 20,
    retry: RetryPolicy | None = None,
    keep: Keep | None = None,
    needs_durability: bool = False,
    auto_disable_after: timedelta | None = None,
    seals: SealSettings | None = None,
    resolver: Any = None,
    policy: EgressPolicy | None = None,
    audience: Audience = NOBODY,
    extra_ca_file: Path | None = None,
    tunables: Tunables = DEFAULTS,
) -> AsyncIterator[PipelineProcess]:
    """Runs a pipeline until the end of the block, then stops it cleanly; `run=False` only builds it."""
    database = Database(database_url, pool_size=4)
    await database.open()
    metrics = Metrics()
    keychain = Keychain(database, await let_vault_in(database))
    projection = Projection(database)
    await projection.catch_up()
    policy = policy or EgressPolicy.dev()
    commands = _commands(database, keychain, policy, projection, audience)
    try:
        async with Sender(
            policy,
            timeout_seconds=timeout_seconds,
            resolver=resolver,
            on_denied=lambda _reason: None,
            extra_ca_file=extra_ca_file,
        ) as sender:
            pipeline = Pipeline(
                database,
                projection,
                keychain,
                sender,
                metrics,
                owner=incarnation("test", next(_incarnations)),
                limits=SendingLimits(
                    concurrency=concurrency, route_concurrency=route_concurrency, breaker_failures=breaker_failures
                ),
                settings=_attempt_settings(timeout_seconds, retry),
                commands=commands,
                auto_disable_after=auto_disable_after,
                audience=audience,
                seals=seals,
                keep=keep,
                needs_durability=needs_durability,
                tunables=tunables,
            )
            async with _running(pipeline) if run else nullcontext():
                yield PipelineProcess(
                    database=database,
                    projection=projection,
                    commands=commands,
                    keychain=keychain,
                    pipeline=pipeline,
                    metrics=metrics,
                )
    finally:
        await database.close()


@asynccontextmanager
async def _running(pipeline: Pipeline) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        group.create_task(pipeline.run())
        try:
            yield
        finally:
            pipeline.stop()


def _commands(
    database: Database, keychain: Keychain, policy: EgressPolicy, projection: Projection, audience: Audience
) -> Commands:
    return Commands(
        database,
        keychain,
        policy,
        signing_header=SIGNING_HEADER,
        now=lambda: datetime.now(UTC),
        on_appended=projection.reach,
        index=projection.index,
        audience=audience,
    )


def _attempt_settings(timeout_seconds: float, retry: RetryPolicy | None) -> AttemptSettings:
    return AttemptSettings(
        signing_header=SIGNING_HEADER,
        standard_webhooks=True,
        user_agent="Hookledger/test",
        max_body_bytes=262_144,
        timeout_seconds=timeout_seconds,
        retry=retry or RetryPolicy(first=timedelta(seconds=0.1), cap=timedelta(seconds=1), attempts=5),
    )
