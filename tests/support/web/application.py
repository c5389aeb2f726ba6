"""The web application on loopback over a real database, without a pipeline, for tests/web."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import orjson
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from daemon import app as daemon_app
from daemon import config, store
from daemon.catalogue import Catalogue
from daemon.commands import CommandLimits, Commands
from daemon.credentials.keys import Keychain
from daemon.credentials.tokens import Tokens
from daemon.expressions.judging import FilterPlaces
from daemon.pipeline.intake.event_feed import EventFeed
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.supervisor import Pipeline
from daemon.pipeline.tunables import DEFAULTS
from daemon.telemetry.metrics import Metrics
from daemon.web.app import build
from daemon.web.http.listeners import OwnRunner
from daemon.web.http.outages import OutageLog
from daemon.web.http.services import Services
from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.connect import Database
from tests.support.rows.credentials import let_vault_in
from tests.support.web.evaluator import EvaluatorHere
from tests.support.web.openapi_conformance import OpenApiConformance

TARGET = "https://shop.example.com/hook"

_BEGINS_SECONDS = 30.0


@dataclass(kw_only=True)
class Pools:
    """The connections of an application: for commands, and for queries."""

    commands: Database
    queries: Database
    are_open: bool = False

    async def open(self) -> None:
        """Connects, unless they are open."""
        if not self.are_open:
            await self.commands.open()
            await self.queries.open()
            self.are_open = True

    async def close(self) -> None:
        self.are_open = False
        await self.commands.close()
        await self.queries.close()


# By URL: the pools that applications without database settings of their own use one after the other, instead of
# opening some. A new connection takes 15 ms of CPU, and plans each statement anew. All of them run in one event loop.
KEPT_POOLS: dict[str, Pools] = {}


@dataclass(kw_only=True)
class Answer:
    """A whole answer; `json` is None if the body is not JSON."""

    status: int
    headers: Mapping[str, str]
    text: str
    json: Any

    @property
    def errors(self) -> dict[str, str]:
        """Field → message of a problem."""
        return {error["field"]: error["message"] for error in self.json["errors"]}


@dataclass(kw_only=True)
class App:
    """A served application with its services and a client for it."""

    client: TestClient[web.Request, web.Application]
    services: Services
    pools: Pools
    projection: Projection
    pipeline: SimpleNamespace
    hurried: list[None]

    async def disconnect(self) -> None:
        """Closes all connections to the database, as if it were gone."""
        await self.pools.close()

    @property
    def database(self) -> Database:
        """The connections for commands."""
        return self.pools.commands

    async def ask(self, method: str, path: str | URL, body: Any = None, **more: Any) -> Answer:
        """One request; `body` goes as JSON, `data=` as it is."""
        if body is not None:
            more["data"] = orjson.dumps(body)
            more["headers"] = {"Content-Type": "application/json"} | more.get("headers", {})
        async with self.client.request(method, path, **more) as response:
            raw = await response.read()
            is_json = response.content_type in ("application/json", "application/problem+json") and raw
            return Answer(
                status=response.status,
                headers=response.headers,
                text=raw.decode(),
                json=orjson.loads(raw) if is_json else None,
            )

    async def raw(self, request: bytes) -> bytes:
        """Sends the bytes of a request. Returns all bytes of the answer, which ends when the server closes or is silent
        for a second. A busy machine may take longer to begin it.
        """
        reader, writer = await asyncio.open_connection(self.client.host, self.client.port)
        writer.write(request)
        answer = b""
        try:
            async with asyncio.timeout(_BEGINS_SECONDS) as limit:
                while chunk := await reader.read(65536):
                    answer += chunk
                    limit.reschedule(asyncio.get_running_loop().time() + 1)
        except TimeoutError:
            assert answer, f"no answer within {_BEGINS_SECONDS} s"
        finally:
            writer.close()
        return answer

    async def route(self, tenant: str = "acme", **more: Any) -> dict[str, Any]:
        """A new route as the API shows it."""
        body = {"name": "a route", "target_url": TARGET, "event_types": ["*"]} | more
        made = await self.ask("POST", f"/v1/tenants/{tenant}/routes", body)
        assert made.status == 201, made.text
        return cast("dict[str, Any]", made.json)

    async def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        async with self.database.connection() as connection:
            return [dict(row) for row in await connection.fetch(query, *arguments)]

    async def events(self) -> list[dict[str, Any]]:
        """The rows of all events, in order."""
        return await self.rows("SELECT * FROM hookledger.domain_event ORDER BY seq")

    async def log(self) -> list[dict[str, Any]]:
        """The rows of the route log, in order."""
        return await self.rows("SELECT * FROM hookledger.route_event ORDER BY pos")


class _Server(TestServer):
    """aiohttp's test server, with the runner of the product."""

    async def _make_runner(self, **kwargs: Any) -> OwnRunner:
        return OwnRunner(self.app, **kwargs)


def path(route: Mapping[str, Any], rest: str = "") -> str:
    """The API's path of a route that it has shown, with `rest` appended."""
    return f"/v1/tenants/{route['tenant']}/routes/{route['id']}{rest}"


@asynccontextmanager
async def app(database_url: str, **settings: str) -> AsyncIterator[App]:
    """Serves the application. Settings are given as `server__admin_token="…"`; the default is --dev on loopback."""
    configured = _configured(settings)
    kept = None if any(name.startswith("database__") for name in settings) else KEPT_POOLS.get(database_url)
    pools = kept or pools_of(database_url, configured)
    await pools.open()
    database = pools.commands
    projection = Projection(database)
    await projection.catch_up()
    keychain = Keychain(database, await let_vault_in(database))
    pipeline = SimpleNamespace(
        is_stopping=False,
        log_fault=None,
        stage_faults=[],
        standing_faults=[],
        tick_age_seconds=0.0,
        clock_skew_seconds=0.0,
        clock_step_seconds=0.0,
        sealing_fault=None,
    )
    hurried: list[None] = []

    async def publish(
        database: Database, events: Sequence[NewEvent], *, seconds: float, lock_seconds: float | None = None
    ) -> list[bool]:
        fresh = await domain_events.publish(database, events, seconds=seconds, lock_seconds=lock_seconds)
        hurried.append(None)
        return fresh

    metrics = Metrics()
    catalogue = Catalogue(database, is_strict=configured.events.strict_types)
    query_pool = store.query_pool(pools.queries, configured.database, on_refused=metrics.query_refused)
    services = Services(
        config=configured,
        command_database=database,
        query_pool=query_pool,
        commands=_commands(configured, database, keychain, catalogue, projection),
        keychain=keychain,
        tokens=Tokens(database, macs=keychain.macs),
        catalogue=catalogue,
        index=projection.index,
        reach=projection.reach,
        reach_end=projection.reach_end,
        metrics=metrics,
        outages=OutageLog(metrics),
        request_tick=lambda: hurried.append(None),
        publish=publish,
        event_feed=EventFeed(query_pool.of("event feed")),
        filter_places=FilterPlaces(
            evaluator=EvaluatorHere(metrics), allowance=DEFAULTS.loop_allowance, patience_seconds=DEFAULTS.judge_seconds
        ),
        tracing=None,
        tick_age_seconds=lambda: pipeline.tick_age_seconds,
        clock_skew_seconds=lambda: pipeline.clock_skew_seconds,
        clock_step_seconds=lambda: pipeline.clock_step_seconds,
        sealing_fault=lambda: pipeline.sealing_fault,
        stage_faults=lambda: pipeline.stage_faults + pipeline.standing_faults,
        readiness=lambda: daemon_app._readiness(projection, cast("Pipeline", pipeline)),
        now=lambda: datetime.now(UTC),
    )
    application = build(services)
    conformance = OpenApiConformance(application)
    try:
        async with TestClient(_Server(application, access_log=None)) as client:
            yield App(
                client=client,
                services=services,
                pools=pools,
                projection=projection,
                pipeline=pipeline,
                hurried=hurried,
            )
        assert not conformance.violations, "\n".join(conformance.violations)
    finally:
        if not kept:
            await pools.close()


def _commands(
    configured: config.Config, database: Database, keychain: Keychain, catalogue: Catalogue, projection: Projection
) -> Commands:
    return Commands(
        database,
        keychain,
        configured.egress_policy,
        signing_header=configured.signing.header,
        now=lambda: datetime.now(UTC),
        on_appended=projection.reach,
        catalogue=catalogue,
        index=projection.index,
        limits=CommandLimits(
            routes_per_tenant=configured.limits.routes_per_tenant,
            commands_per_minute=configured.limits.commands_per_minute,
        ),
    )


def pools_of(database_url: str, configured: config.Config | None = None) -> Pools:
    """Pools that are not open yet, by the default settings if no others are given."""
    section = (configured or _configured({})).database
    return Pools(commands=Database(database_url), queries=store.pool_of_queries(database_url, section))


def _configured(settings: Mapping[str, str]) -> config.Config:
    environ = {f"HOOKLEDGER_{name.upper()}": value for name, value in settings.items()}
    environ["HOOKLEDGER_DATABASE__DATA_DIR"] = "/nonexistent"  # nothing here may need one
    return config.load(None, environ)
