"""The system that tests of faults run: daemons as processes, a receiver, a producer, and the check over their logs.

The one thing to know: a daemon or PostgreSQL may be down at any moment, so each request to them opens a connection of
its own.
"""

from __future__ import annotations

import asyncio
import base64
import math
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg

from tests.support.faults.delivery_check import CheckedRoute, DeliveryCheck, PathAndEvent, check_deliveries
from tests.support.faults.producer import Producer
from tests.support.processes.cli import CommandLine
from tests.support.processes.running import Running, running
from tests.support.receivers.recording_receiver import Arrival, RecordingReceiver, recording_receiver
from tests.support.until import until

_MASTER_KEY = base64.b64encode(b"k" * 32).decode()
_DRIVER_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

# All events are read, and each of their deliveries has an outcome, a retry or a parked entry.
ACCOUNTED = """
SELECT (SELECT min(tick) FROM hookledger.checkpoint) = (SELECT coalesce(max(tick), 0) FROM hookledger.tick)
   AND NOT hookledger.has_news(coalesce((SELECT snap FROM hookledger.tick ORDER BY tick DESC LIMIT 1), '1:1:'))
"""
# The same, and nothing is pending.
SETTLED = f"""{ACCOUNTED}
   AND NOT EXISTS (SELECT FROM hookledger.retry) AND NOT EXISTS (SELECT FROM hookledger.parked)
   AND NOT EXISTS (SELECT FROM hookledger.parked_range)
"""

_VISIBLE = """
SELECT route_id, event_id FROM hookledger.attempt WHERE outcome IN ('suppressed', 'failed', 'expired')
UNION SELECT r.route_id, e.id FROM hookledger.retry r JOIN hookledger.domain_event e USING (seq)
UNION SELECT p.route_id, e.id FROM hookledger.parked p, unnest(p.seqs) s JOIN hookledger.domain_event e ON e.seq = s
"""

_RECORDED = "SELECT DISTINCT route_id, event_id FROM hookledger.attempt"

OWNERS = """
SELECT shard, split_part(owner, ':', 2)::integer AS pid FROM hookledger.lease
 WHERE owner IS NOT NULL AND expires_at > clock_timestamp()
"""


@dataclass(kw_only=True)
class SystemUnderTest:
    """`url` is that of the daemon which the producer and `ask` use: the one that was started last."""

    receiver: RecordingReceiver
    home: Path
    database_url: str
    session: aiohttp.ClientSession
    url: str = ""
    routes: list[CheckedRoute] = field(default_factory=list)
    producer: Producer = field(init=False)

    def __post_init__(self) -> None:
        self.producer = Producer(url=lambda: self.url, session=self.session)

    @asynccontextmanager
    async def daemon(self, *options: str, through: str | None = None, **settings: str) -> AsyncIterator[Running]:
        """Runs a daemon on the database, which it reaches by the URL `through` if that is given."""
        home = Path(tempfile.mkdtemp(dir=self.home))
        environment = {"HOOKLEDGER_SIGNING__MASTER_KEY": _MASTER_KEY, **settings}
        async with running(CommandLine(home, through or self.database_url, **environment), *options) as daemon:
            self.url = daemon.url
            yield daemon

    def command_line(self) -> CommandLine:
        """Commands on the database, with the master key that the daemons have."""
        return CommandLine(self.home, self.database_url, HOOKLEDGER_SIGNING__MASTER_KEY=_MASTER_KEY)

    async def route(
        self, path: str, *types: str, tenant: str = "acme", url: str | None = None, **more: Any
    ) -> CheckedRoute:
        """Creates a route to `path` of the recording receiver, or of the receiver at `url`."""
        body = {
            "name": path,
            "target_url": (url or self.receiver.url) + path,
            "event_types": list(types or ("*",)),
            **more,
        }
        made = await self.ask("POST", f"/v1/tenants/{tenant}/routes", body)
        self.receiver.set_key(path, made["verification_key"])
        route = CheckedRoute(
            id=UUID(made["id"]),
            tenant=tenant,
            path=path,
            types=types or ("*",),
            windows=_windows(made),
            is_ordered=bool(more.get("ordered")),
        )
        self.routes.append(route)
        return route

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        async with self.session.request(method, self.url + path, json=body) as response:
            assert response.status < 300, (response.status, await response.text())
            return await response.json()

    async def status(self, path: str) -> int | None:
        """The status of the daemon's answer; None if there is none within 5 s."""
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with self.session.get(self.url + path, timeout=aiohttp.ClientTimeout(total=5)) as response:
                return response.status
        return None

    async def close_and_open(self, route: CheckedRoute) -> None:
        """Disables a route and enables it again. Call `learn_windows` before the next check."""
        for command in ("disable", "enable"):
            await self.ask("POST", f"/v1/tenants/{route.tenant}/routes/{route.id}/{command}", {})

    async def learn_windows(self) -> None:
        """Reads the windows of all routes from the daemon. A check needs them if routes were disabled meanwhile."""
        for number, route in enumerate(self.routes):
            shown = await self.ask("GET", f"/v1/tenants/{route.tenant}/routes/{route.id}")
            self.routes[number] = replace(route, windows=_windows(shown))

    async def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        connection = await asyncpg.connect(self.database_url, timeout=10)
        try:
            return [dict(row) for row in await connection.fetch(query, *arguments, timeout=30)]
        finally:
            connection.terminate()

    async def value(self, query: str, *arguments: object) -> Any:
        (row,) = await self.rows(query, *arguments)
        return next(iter(row.values()))

    async def until_row(self, query: str, *arguments: object, seconds: float = 90.0) -> None:
        """Waits until the query's value is true. PostgreSQL may be down in between."""
        deadline = time.monotonic() + seconds
        seen: object = None
        while time.monotonic() < deadline:
            with suppress(*_DRIVER_ERRORS):
                seen = await self.value(query, *arguments)
                if seen:
                    return
            await asyncio.sleep(0.02)
        raise AssertionError(f"not true within {seconds} s (last value: {seen}): {query}")

    async def until_accounted(self, *, seconds: float = 90.0) -> None:
        await self.until_row(ACCOUNTED, seconds=seconds)

    async def until_settled(self, *, seconds: float = 90.0) -> None:
        await self.until_row(SETTLED, seconds=seconds)

    async def until_arrived(self, count: int, *, seconds: float = 90.0) -> None:
        """Waits until `count` requests have arrived since the start, of whatever kind."""
        await until(lambda: self.receiver.count >= count, seconds=seconds)

    async def until_more(self, count: int = 1, *, seconds: float = 90.0) -> Arrival:
        """Waits for `count` more requests. Returns the first of them."""
        before = self.receiver.count
        await self.until_arrived(before + count, seconds=seconds)
        return self.receiver.arrivals()[before]

    async def visible(self) -> set[PathAndEvent]:
        """The deliveries that the daemon shows as suppressed, failed, expired or pending."""
        return await self._pairs(_VISIBLE)

    async def recorded(self) -> set[PathAndEvent]:
        """The deliveries that have a recorded attempt."""
        return await self._pairs(_RECORDED)

    async def check_deliveries(self, paths: Sequence[str] | None = None) -> DeliveryCheck:
        """Checks all routes, or those with these paths."""
        routes = [route for route in self.routes if paths is None or route.path in paths]
        known = {route.path for route in routes}
        arrivals = [arrival for arrival in self.receiver.arrivals() if paths is None or arrival.path in known]
        return check_deliveries(self.producer.log.values(), routes, arrivals, visible=await self.visible())

    async def events_stored_twice(self) -> int:
        stored: int = await self.value("SELECT count(*) - count(DISTINCT (tenant, id)) FROM hookledger.domain_event")
        return stored

    async def shards_of(self, daemon: Running) -> set[int]:
        return {row["shard"] for row in await self.rows(OWNERS) if row["pid"] == daemon.process.pid}

    async def _pairs(self, query: str) -> set[PathAndEvent]:
        paths = {route.id: route.path for route in self.routes}
        return {(paths[row["route_id"]], row["event_id"]) for row in await self.rows(query) if row["route_id"] in paths}


@asynccontextmanager
async def system_under_test(database_url: str, home: Path) -> AsyncIterator[SystemUnderTest]:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)  # no connection to a killed daemon may be reused
    with recording_receiver() as receiver:
        async with aiohttp.ClientSession(connector=connector) as session:
            yield SystemUnderTest(receiver=receiver, home=home, database_url=database_url, session=session)


def _windows(shown: dict[str, Any]) -> tuple[tuple[float, float], ...]:
    """The windows of a route as the API shows it, in monotonic seconds."""
    past = time.time() - time.monotonic()

    def monotonic(text: str | None) -> float:
        return math.inf if text is None else datetime.fromisoformat(text).timestamp() - past

    return tuple((monotonic(window["from"]), monotonic(window["to"])) for window in shown["windows"])
