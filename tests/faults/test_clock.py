"""A wall clock jumps by an hour, in both directions, under load: that of the daemon's machine, and that of PostgreSQL's.

Leases use PostgreSQL's clock and the monotonic clock. Retries use PostgreSQL's without its steps, and the time of an
event has a floor. So nothing is lost, nothing is sent twice, and no retry comes before it is due, nor long after.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from tests.support.faults.delivery_check import CheckedRoute
from tests.support.faults.producer import Publication
from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest, system_under_test
from tests.support.postgres.server_clock import server_clock
from tests.support.processes.cli import HERE
from tests.support.processes.clock import WallClock
from tests.support.receivers.recording_receiver import FAILING, PROMPT
from tests.support.until import until

HOUR_SECONDS = 3600
RETRY_SECONDS = 600
SOON_SECONDS = 5
# The place of that route among the routes of the test.
TOGGLED = 1


async def test_a_wall_clock_that_jumps_by_an_hour(
    system: SystemUnderTest, report: FaultReport, tmp_path: Path, is_long: bool
) -> None:
    clock, hours = WallClock(tmp_path / "clock", path=str(HERE)), (1, -1, 0) * (5 if is_long else 1)
    skews: list[float] = []
    retry = {
        "HOOKLEDGER_DELIVERY__RETRY_FIRST_SECONDS": str(RETRY_SECONDS),
        "HOOKLEDGER_DELIVERY__RETRY_CAP_SECONDS": str(RETRY_SECONDS),
    }
    async with system.daemon(**clock.environment, **retry):
        await system.route("/acme", "order.create")
        await system.route("/failing", "order.cancel")
        system.receiver.behave("/failing", FAILING)
        system.producer.types = ["order.create"] * 9 + ["order.cancel"]
        async with system.producer.load(per_second=400):
            await system.until_more(100)
            for hour in hours:
                clock.shift(hour * HOUR_SECONDS)
                await system.until_more(300)
                skews.append(await system.value(_SKEW))
        await system.until_accounted()
    arrivals = system.receiver.arrivals()
    found = await system.check_deliveries()
    good = [arrival.at for arrival in arrivals if arrival.path == "/acme"]
    failing = [arrival for arrival in arrivals if arrival.path == "/failing"]
    report.add("jumps of an hour or two", len(hours))
    report.add_check(found, duplicates_at_most=0)
    report.add("requests before their time", len(failing) - len({one.event_id for one in failing}), at_most=0)
    report.add("leases that changed hands", await system.value(_CHANGES), at_most=0)
    report.add_duration("longest pause of deliveries", max(b - a for a, b in pairwise(good)), within=2)
    assert max(skews) > HOUR_SECONDS - 60, "the daemon's clock went forward"
    assert min(skews) < 60 - HOUR_SECONDS, "and back"
    report.verify()


async def test_a_database_clock_that_jumps_by_an_hour(report: FaultReport, tmp_path: Path, is_long: bool) -> None:
    hours = (-1, 1, 0) * (5 if is_long else 1)
    retry = {
        "HOOKLEDGER_DELIVERY__RETRY_FIRST_SECONDS": str(SOON_SECONDS),
        "HOOKLEDGER_DELIVERY__RETRY_CAP_SECONDS": str(SOON_SECONDS),
    }
    async with AsyncExitStack() as stack:
        clock = stack.enter_context(server_clock())
        system = await stack.enter_async_context(system_under_test(clock.url, tmp_path))
        await stack.enter_async_context(system.daemon(**retry))
        await _timed(system, system.route("/failing", "order.cancel"))
        await _timed(system, system.route("/toggled", "order.create"))
        system.receiver.behave("/failing", FAILING)
        system.producer.types = ["order.create"] * 9 + ["order.cancel"]
        async with system.producer.load(per_second=200):
            await system.until_more(100)
            for number, hour in enumerate(hours):
                clock.shift(hour * HOUR_SECONDS)
                await _timed(system, system.route(f"/made/{number}", "order.create"))
                await system.until_more(300)
                await _disable_for_a_while(system, TOGGLED)
                await system.until_more(300)
        warnings = (await system.ask("GET", "/v1/status"))["warnings"]
        seen = len(_waits(system))
        await until(lambda: len(_waits(system)) >= seen + 30, seconds=60)
        system.receiver.behave("/failing", PROMPT)
        await system.until_settled()
        found, waits = await system.check_deliveries(), _waits(system)
        decisions = await _audited(system)
        steps = await system.value("SELECT ahead_microseconds / 1000000.0 FROM hookledger.steady_clock")
    report.add("jumps of an hour or two", len(hours))
    report.add_check(found, duplicates_at_most=0)
    report.add("deliveries audited", decisions, at_least=found.owed)
    report.add("retries", len(waits), at_least=30)
    report.add("shortest wait", min(waits), "s", at_least=SOON_SECONDS * 0.9 - 0.1)
    report.add_duration("longest wait", max(waits), within=SOON_SECONDS * 1.1 + 2)
    report.add("steady time off by", abs(float(steps)), "s", at_most=5)
    assert any("the database's clock stepped back" in warning for warning in warnings), warnings
    report.verify()


@dataclass(frozen=True, slots=True, kw_only=True)
class _TimedRoute(CheckedRoute):
    """Its windows are those in which it was surely open, by our own clock: each may have been longer by `doubt_seconds`."""

    doubt_seconds: float

    def may_get(self, event: Publication) -> bool:
        longer = tuple((start - self.doubt_seconds, end + self.doubt_seconds) for start, end in self.windows)
        return CheckedRoute.may_get(replace(self, windows=longer), event)


async def _timed(system: SystemUnderTest, creation: Awaitable[CheckedRoute]) -> None:
    asked_at = time.monotonic()
    made, answered_at = await creation, time.monotonic()
    system.routes[-1] = _TimedRoute(
        id=made.id,
        tenant=made.tenant,
        path=made.path,
        types=made.types,
        windows=((answered_at, math.inf),),
        doubt_seconds=answered_at - asked_at,
    )


async def _disable_for_a_while(system: SystemUnderTest, place: int) -> None:
    route = system.routes[place]
    assert isinstance(route, _TimedRoute)
    path = f"/v1/tenants/{route.tenant}/routes/{route.id}"
    start, asked_at = route.windows[-1][0], time.monotonic()
    await system.ask("POST", f"{path}/disable", {})
    doubt_seconds = time.monotonic() - asked_at
    await system.until_more(50)
    enabled_at = time.monotonic()
    await system.ask("POST", f"{path}/enable", {})
    answered_at = time.monotonic()
    system.routes[place] = replace(
        route,
        windows=(*route.windows[:-1], (start, asked_at), (answered_at, math.inf)),
        doubt_seconds=max(route.doubt_seconds, doubt_seconds, answered_at - enabled_at),
    )


def _waits(system: SystemUnderTest) -> list[float]:
    """The seconds between two requests for one delivery."""
    tried: dict[str, list[float]] = {}
    for arrival in system.receiver.arrivals():
        if arrival.path == "/failing":
            tried.setdefault(arrival.event_id, []).append(arrival.at)
    return [later - earlier for each in tried.values() for earlier, later in pairwise(each)]


async def _audited(system: SystemUnderTest) -> int:
    """The number of deliveries that the audit found, all of them as they were decided."""
    hookledger = system.command_line()
    report = (await asyncio.to_thread(hookledger, "audit", "--json")).json
    deliveries: int = report["deliveries"]
    return deliveries


_CHANGES = "SELECT max(epoch) - 1 FROM hookledger.lease"
# By how many seconds the daemon's clock (the request's start) is ahead of PostgreSQL's clock (the row).
_SKEW = """
SELECT extract(epoch FROM started_at - at)::float8 FROM hookledger.attempt ORDER BY at DESC LIMIT 1
"""
