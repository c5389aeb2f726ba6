"""The stage for faults: daemons as processes, a witness, a producer, and the reckoning over their logs.

The one thing to know: nothing here depends on a daemon or on PostgreSQL being there. Either may be away at any moment,
so each question to them opens a connection of its own.
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

from tests.support.cli import CommandLine
from tests.support.producer import Producer
from tests.support.reckoning import Pair, Reckoning, Watched, reckon
from tests.support.running import Running, running
from tests.support.until import until
from tests.support.witness import Arrival, Witness, witness

_MASTER_KEY = base64.b64encode(b"k" * 32).decode()
_DRIVER_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

# Everything published was read, and what was read is written down: what became of it, or that it waits.
ACCOUNTED = """
SELECT (SELECT min(tick) FROM hookledger.checkpoint) = (SELECT coalesce(max(tick), 0) FROM hookledger.tick)
   AND NOT hookledger.has_news(coalesce((SELECT snap FROM hookledger.tick ORDER BY tick DESC LIMIT 1), '1:1:'))
"""
# And nothing waits.
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
class Stage:
    """`url` is that of the daemon which producers and commands talk to: the one that was started last."""

    witness: Witness
    home: Path
    database_url: str
    session: aiohttp.ClientSession
    url: str = ""
    routes: list[Watched] = field(default_factory=list)
    producer: Producer = field(init=False)

    def __post_init__(self) -> None:
        self.producer = Producer(url=lambda: self.url, session=self.session)

    @asynccontextmanager
    async def daemon(self, *options: str, through: str | None = None, **settings: str) -> AsyncIterator[Running]:
        """A daemon of the same database, reached by the URL `through` if that is another one."""
        home = Path(tempfile.mkdtemp(dir=self.home))
        environment = {"HOOKLEDGER_SIGNING__MASTER_KEY": _MASTER_KEY, **settings}
        async with running(CommandLine(home, through or self.database_url, **environment), *options) as daemon:
            self.url = daemon.url
            yield daemon

    async def route(self, path: str, *types: str, tenant: str = "acme", url: str | None = None, **more: Any) -> Watched:
        """A route whose receiver is the witness's at `path`, or somebody else's."""
        body = {
            "name": path,
            "target_url": (url or self.witness.url) + path,
            "event_types": list(types or ("*",)),
            **more,
        }
        made = await self.ask("POST", f"/v1/tenants/{tenant}/routes", body)
        self.witness.know(path, made["verification_key"])
        route = Watched(
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
        """The status with which the daemon answers; None if it does not within 5 s."""
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with self.session.get(self.url + path, timeout=aiohttp.ClientTimeout(total=5)) as response:
                return response.status
        return None

    async def close_and_open(self, route: Watched) -> None:
        """Disables a route and enables it again: to be followed by `learn_windows` before a reckoning."""
        for command in ("disable", "enable"):
            await self.ask("POST", f"/v1/tenants/{route.tenant}/routes/{route.id}/{command}", {})

    async def learn_windows(self) -> None:
        """Asks the daemon when its routes received: what a reckoning needs if they were disabled meanwhile."""
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

    async def until_row(self, query: str, *arguments: object, seconds: float = 30.0) -> None:
        """Waits until the query's value is true. PostgreSQL may be away in between."""
        deadline = time.monotonic() + seconds
        seen: object = None
        while time.monotonic() < deadline:
            with suppress(*_DRIVER_ERRORS):
                seen = await self.value(query, *arguments)
                if seen:
                    return
            await asyncio.sleep(0.02)
        raise AssertionError(f"it did not come to that within {seconds} s (last: {seen}): {query}")

    async def until_accounted(self, *, seconds: float = 40.0) -> None:
        await self.until_row(ACCOUNTED, seconds=seconds)

    async def until_settled(self, *, seconds: float = 40.0) -> None:
        await self.until_row(SETTLED, seconds=seconds)

    async def until_arrived(self, count: int, *, seconds: float = 30.0) -> None:
        """Waits until so many requests came, of whatever kind."""
        await until(lambda: self.witness.count >= count, seconds=seconds)

    async def until_more(self, count: int = 1, *, seconds: float = 30.0) -> Arrival:
        """Waits for so many requests more; the first of them."""
        before = self.witness.count
        await self.until_arrived(before + count, seconds=seconds)
        return self.witness.arrivals()[before]

    async def visible(self) -> set[Pair]:
        """What the daemon can say about deliveries that did not arrive, or not yet."""
        return await self._pairs(_VISIBLE)

    async def recorded(self) -> set[Pair]:
        """Deliveries of which the end of an attempt is written down."""
        return await self._pairs(_RECORDED)

    async def reckoning(self, paths: Sequence[str] | None = None) -> Reckoning:
        """Over all routes, or those with these paths."""
        routes = [route for route in self.routes if paths is None or route.path in paths]
        known = {route.path for route in routes}
        arrivals = [arrival for arrival in self.witness.arrivals() if paths is None or arrival.path in known]
        return reckon(self.producer.log.values(), routes, arrivals, visible=await self.visible())

    async def events_stored_twice(self) -> int:
        stored: int = await self.value("SELECT count(*) - count(DISTINCT (tenant, id)) FROM hookledger.domain_event")
        return stored

    async def shards_of(self, daemon: Running) -> set[int]:
        return {row["shard"] for row in await self.rows(OWNERS) if row["pid"] == daemon.process.pid}

    async def _pairs(self, query: str) -> set[Pair]:
        paths = {route.id: route.path for route in self.routes}
        return {(paths[row["route_id"]], row["event_id"]) for row in await self.rows(query) if row["route_id"] in paths}


@asynccontextmanager
async def stage(database_url: str, home: Path) -> AsyncIterator[Stage]:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)  # a killed daemon leaves no connection to stumble over
    with witness() as watching:
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Stage(witness=watching, home=home, database_url=database_url, session=session)


def _windows(shown: dict[str, Any]) -> tuple[tuple[float, float], ...]:
    """Of a route as the API shows it, in monotonic seconds."""
    past = time.time() - time.monotonic()

    def monotonic(text: str | None) -> float:
        return math.inf if text is None else datetime.fromisoformat(text).timestamp() - past

    return tuple((monotonic(window["from"]), monotonic(window["to"])) for window in shown["windows"])
