"""Replays under faults: daemons are killed, or hand their shards over, in the middle of one.

A replay sends deliveries again, so each must be accepted twice and recorded twice. A kill may repeat only requests that
had arrived and were not recorded yet, as in test_kill.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from uuid import UUID

from tests.support.faults.delivery_check import CheckedRoute, PathAndEvent
from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import OWNERS, SystemUnderTest
from tests.support.receivers.recording_receiver import PROMPT, slow
from tests.support.until import until
from tests.support.values.builders import TENANTS

QUICK_KILLS, QUICK_EVENTS = 2, 900
LONG_KILLS, LONG_EVENTS = 10, 20_000
# Events of each tenant, and the receiver's delay: a replay lasts longer than another daemon needs to get its shards.
EACH, ANSWER_SECONDS = 48, 1.2
ROUTE_CONCURRENCY = 16
# What may follow where the daemon hears of a cancel two seconds late: a fraction of the hundreds that a replay has.
LATE_CANCEL = 20 * ROUTE_CONCURRENCY
EVER = {"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "status": "all"}

_DELIVERED = "SELECT route_id, event_id FROM hookledger.attempt WHERE outcome = 'delivered'"
_NONE_RUNS = "SELECT NOT EXISTS (SELECT FROM hookledger.replay WHERE state = 'running')"
# Routes whose metrics, hours and tallies together, differ from the log.
_MISCOUNTED = """
WITH logged AS (
    SELECT route_id, count(*) FILTER (WHERE outcome = 'delivered') AS successful,
           count(*) FILTER (WHERE outcome = 'delivered' AND number > 1) AS successful_retries,
           count(*) FILTER (WHERE outcome = 'failed') AS failed
      FROM hookledger.attempt GROUP BY route_id
), counted AS (
    SELECT route_id, sum(successful) AS successful, sum(successful_retries) AS successful_retries, sum(failed) AS failed
      FROM (SELECT route_id, successful, successful_retries, failed FROM hookledger.route_metric
             UNION ALL
            SELECT u.* FROM hookledger.route_tally t,
                   unnest(t.route_ids, t.successful, t.successful_retries, t.failed) AS u) each
     GROUP BY route_id
)
SELECT * FROM logged NATURAL FULL JOIN counted WHERE logged IS NULL OR counted IS NULL
"""


async def test_a_daemon_killed_in_the_middle_of_a_replay(
    system: SystemUnderTest, report: FaultReport, dice: random.Random, is_long: bool
) -> None:
    kills, events = (LONG_KILLS, LONG_EVENTS) if is_long else (QUICK_KILLS, QUICK_EVENTS)
    unwritten: Counter[PathAndEvent] = Counter()
    for number in range(kills):
        async with system.daemon() as daemon:
            if number == 0:
                await system.route("/acme")
                await system.producer.publish(events)
                await system.until_settled()
                await _replay(system, system.routes[0])
            await system.until_arrived(system.receiver.count + dice.randint(1, events // kills // 2))
            daemon.kill()
        await until(lambda: system.receiver.connections() == 0)
        unwritten += _arrived(system) - await _written(system) - unwritten
    async with system.daemon():
        await system.until_row(_NONE_RUNS, seconds=120)
        await system.until_settled()
        written = await _written(system)
        repeated = +(_arrived(system) - Counter(dict.fromkeys(written, 2)))
        report.add("kills", kills)
        report.add("replayed", len(written))
        report.add("lost", sum(count < 2 for count in written.values()) + events - len(written), at_most=0)
        report.add("recorded twice", sum(count > 2 for count in written.values()), at_most=0)
        report.add("duplicates", repeated.total(), at_most=unwritten.total())
        assert repeated <= unwritten, "something was repeated though it was recorded"
        await _nothing_is_sent_once_cancelled(system, report, system.routes[0])
    await _agrees(system)
    report.verify()


async def test_replays_handed_over_from_one_daemon_to_another(system: SystemUnderTest, report: FaultReport) -> None:
    system.producer.tenants = TENANTS
    async with system.daemon() as first:
        routes = [await system.route(f"/{tenant}", tenant=tenant) for tenant in TENANTS]
        await system.producer.publish(EACH * len(TENANTS))
        await system.until_settled()
        for route in routes:
            system.receiver.behave(route.path, slow(ANSWER_SECONDS))
            await _replay(system, route)
        await system.until_more(len(routes))
        async with system.daemon() as second:
            await system.until_row(f"SELECT count(DISTINCT pid) = 2 FROM ({OWNERS}) owners")
            running = await system.value("SELECT count(*) FROM hookledger.replay WHERE state = 'running'")
            assert await first.stop() == 0
            for route in routes:
                system.receiver.behave(route.path, PROMPT)
            await system.until_row(_NONE_RUNS, seconds=60)
            await system.until_settled()
            assert await second.stop() == 0
    report.add("replays running when handed over", running, at_least=1, tolerated=0)
    report.add("deliveries not sent twice", sum(count != 2 for count in _arrived(system).values()), at_most=0)
    assert _arrived(system) == await _written(system)
    await _agrees(system)
    report.verify()


async def _replay(system: SystemUnderTest, route: CheckedRoute) -> str:
    begun = await system.ask("POST", f"/v1/tenants/{route.tenant}/routes/{route.id}/replay", EVER)
    return str(begun["id"])


async def _nothing_is_sent_once_cancelled(system: SystemUnderTest, report: FaultReport, route: CheckedRoute) -> None:
    """A cancel leaves only requests in flight. An event that is published afterwards is delivered alone."""
    system.receiver.behave(route.path, slow(0.1))
    before = _arrived(system)
    replay = await _replay(system, route)
    await system.until_more(20)
    await system.ask("POST", f"/v1/tenants/{route.tenant}/routes/{route.id}/replays/{replay}/cancel", {})
    cancelled_at = time.monotonic()
    await system.until_settled()
    (event,) = await system.producer.publish(1)
    await system.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE event_id = $1", event.id)
    late = [one for one in system.receiver.arrivals() if one.at > cancelled_at and one.event_id != event.id]
    report.add("sent after a cancel", len(late), at_most=ROUTE_CONCURRENCY, tolerated=LATE_CANCEL)
    assert (_arrived(system) - before)[route.path, event.id] == 1


def _arrived(system: SystemUnderTest) -> Counter[PathAndEvent]:
    return Counter((one.path, one.event_id) for one in system.receiver.arrivals() if one.is_accepted)


async def _written(system: SystemUnderTest) -> Counter[PathAndEvent]:
    paths: dict[UUID, str] = {route.id: route.path for route in system.routes}
    return Counter((paths[row["route_id"]], row["event_id"]) for row in await system.rows(_DELIVERED))


async def _agrees(system: SystemUnderTest) -> None:
    """Asserts that the routing decisions and the metrics agree with the log."""
    hookledger = system.command_line()
    report = (await asyncio.to_thread(hookledger, "audit", "--json")).json
    assert report["deliveries"]
    assert await system.rows(_MISCOUNTED) == []
