"""kill -9 of the daemon at random points, under load.

A kill may repeat only requests that had arrived and were not recorded yet. Both sets are known from outside: the
receiver has logged the arrivals since the daemon started, and the table of attempts, read before the next daemon
starts, has the recorded ones. So any other repetition is a fault, however few there are. The size of the set is bounded
too: the requests in flight, the outcomes of 50 ms or 500 that wait for the flush, and as many that came while the last
flush was being written.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

from tests.support.faults.delivery_check import PathAndEvent
from tests.support.faults.producer import PublicationStatus
from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest
from tests.support.until import until

CONCURRENCY = 64
FLUSH_ROWS = 500
QUICK_KILLS, QUICK_EVENTS = 2, 1_000
# From the kill on, if the daemon is started anew at once.
TAKEOVER_SECONDS = 3.0
LONG_KILLS, LONG_EVENTS = 30, 20_000
TENANTS = ("acme", "bella", "cyan", "dove")


async def test_a_daemon_killed_at_random_points(
    system: SystemUnderTest, report: FaultReport, dice: random.Random, is_long: bool
) -> None:
    kills = LONG_KILLS if is_long else QUICK_KILLS
    events = (LONG_EVENTS if is_long else QUICK_EVENTS) // kills
    system.producer.tenants = TENANTS
    lives: list[dict[PathAndEvent, float]] = []
    gaps, killed_at = [0.0], 0.0
    async with asyncio.TaskGroup() as publishing:
        for number in range(kills):
            async with system.daemon(HOOKLEDGER_DELIVERY__CONCURRENCY=str(CONCURRENCY)) as daemon:
                before = system.receiver.count
                if number == 0:
                    for tenant in TENANTS:
                        await system.route(f"/{tenant}", tenant=tenant)
                publishing.create_task(system.producer.publish(events, batch=20))
                await system.until_arrived(before + dice.randint(1, events))
                if number:
                    gaps.append(system.receiver.arrivals()[before].at - killed_at)
                for _ in range(dice.randrange(20)):
                    await asyncio.sleep(0)
                killed_at = time.monotonic()
                daemon.kill()
            lives.append(await _exposed(system, before, killed_at=killed_at))
        async with system.daemon():
            await until(lambda: len(system.producer.log) == kills * events, seconds=30)
            log = system.producer.log
            await until(lambda: all(each.status is PublicationStatus.ACKNOWLEDGED for each in log.values()), seconds=30)
            await system.until_settled()
    found = await system.check_deliveries()
    allowed = Counter(pair for life in lives for pair in life)
    report.add("kills", kills)
    report.add_check(found, duplicates_at_most=allowed.total())
    report.add("arrived and unwritten at a kill, most", max(map(len, lives)), at_most=CONCURRENCY + 2 * FLUSH_ROWS)
    report.add("the oldest of those", max(max(life.values(), default=0) for life in lives), "s")
    report.add_duration("first delivery after the kill", max(gaps), within=TAKEOVER_SECONDS)
    assert found.repeated <= allowed, "something was repeated though it was recorded"
    report.verify()


async def _exposed(system: SystemUnderTest, before: int, *, killed_at: float) -> dict[PathAndEvent, float]:
    """The deliveries that arrived in this run of the daemon and are not recorded → seconds before the kill."""
    recorded = await system.recorded()
    await until(lambda: system.receiver.connections() == 0)
    arrivals = system.receiver.arrivals()[before:]
    arrived = {(arrival.path, arrival.event_id): killed_at - arrival.at for arrival in arrivals}
    return {pair: seconds for pair, seconds in arrived.items() if pair not in recorded}
